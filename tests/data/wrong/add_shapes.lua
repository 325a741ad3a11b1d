local image = input { 3, 8, 8, name = "image" }
return image + image:conv2d { 4, kernel = 3, pad = 1 }
