-- A 1x1 convolution is one neuron applied across the channels of every pixel: it
-- mixes 64 channels into 16 and leaves height and width alone.

local features = input { 64, 14, 14, name = "features" }
local reduced = features:conv2d { 16, kernel = 1, name = "reduce" }

return model { output = reduced:relu(), loss = reduced:mse() }
