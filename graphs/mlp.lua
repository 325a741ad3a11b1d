-- Why not simply connect every pixel with every neuron?
--
-- 64 x 64 x 3 = 12,288 inputs into 1,000 neurons are 12,288,000 weights and 1,000
-- biases, for one layer: see `cnnc summary graphs/mlp.lua`.  A convolution's count
-- does not depend on the size of the picture.

local image = input { 3, 64, 64, name = "image" }

return image:flatten():linear { 1000, name = "neurons" }
