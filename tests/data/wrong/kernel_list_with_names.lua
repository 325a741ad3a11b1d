local image = input { 3, 8, 8, name = "image" }
return image:conv2d { 4, kernel = { height = 3, width = 3 } }
