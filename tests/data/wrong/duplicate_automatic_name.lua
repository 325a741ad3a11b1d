local image = input { 3, 8, 8, name = "image" }
local x = image:conv2d { 3, kernel = 1, name = "conv1" }
return x:conv2d { 3, kernel = 1 }
