local image = input { 3, 8, 8, name = "image" }
return concat(image, image:maxpool { 2 })
