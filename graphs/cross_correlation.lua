-- Y = X slid over by K as it stands: what libraries call a convolution.
local image = input { 1, 5, 5, name = "image" }
local y = image:conv2d { 1, kernel = 3, bias = false, name = "filter",
                         weight = { { { { 1, 2, 0 }, { -1, 3, 1 }, { 0, -2, 4 } } } } }
return model { output = y, loss = y:mse() }
