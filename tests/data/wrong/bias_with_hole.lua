local image = input { 3, 8, 8, name = "image" }
return image:conv2d { 3, kernel = 1, bias = { 1, nil, 3 } }
