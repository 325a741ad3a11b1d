local image = input { 3, 8, 8, name = "image" }
local x = image:conv2d { 3, kernel = 1, name = "a.b" }
return x:conv2d { 3, kernel = 1, name = "a_b" }
