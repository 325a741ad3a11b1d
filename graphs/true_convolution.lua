-- Y = X * K as mathematics defines it: K is rotated by 180 degrees first.
local image = input { 1, 5, 5, name = "image" }
local y = image:conv2d { 1, kernel = 3, bias = false, flip = true, name = "filter",
                         weight = { { { { 1, 2, 0 }, { -1, 3, 1 }, { 0, -2, 4 } } } } }
return model { output = y, loss = y:mse() }
