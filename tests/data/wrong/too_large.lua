local image = input { 3, 8, 8, name = "image" }
return image:flatten():linear { 1 << 40 }
