local image = input { 3, 8, 8, name = "image" }
image.height = 9
return image
