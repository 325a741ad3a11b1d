local image = input { 1, 8, 8, name = "image" }
local x = image:conv2d { 8, kernel = 3, pad = 1 }:relu():maxpool { 2 }
x = x:conv2d { 16, kernel = 3, pad = 1 }:relu():maxpool { 2 }
local scores = x:flatten():linear { 10, name = "scores" }
return model { output = scores, loss = scores:cross_entropy() }
