local image = input { 3, 8, 8, name = "image" }
return image:conv2d { 2, kernel = 1, weight = { { {{1}}, {{1}}, {{1}} } } }
