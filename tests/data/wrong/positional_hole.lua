local image = input { 3, 8, 8, name = "image" }
return image:clip { nil, 6 }
