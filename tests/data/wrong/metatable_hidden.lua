local image = input { 3, 8, 8, name = "image" }
getmetatable(image).__add = nil
return image
