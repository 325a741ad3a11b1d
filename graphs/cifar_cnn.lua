-- A plain convolutional network for CIFAR-10: pairs of 3x3 convolutions that keep the
-- size, with a pool behind each pair that halves it and widens what one pixel sees.

local image = input { 3, 32, 32, name = "image" }

local function pair(x, channels)
  for _ = 1, 2 do
    x = x:conv2d { channels, kernel = 3, pad = 1 }:relu()
  end
  return x:maxpool { 2 }
end

local x = pair(image, 32)                       -- 32x16x16: edges and colours
x = pair(x, 64)                                 -- 64x8x8: parts of objects
x = x:flatten():linear { 256 }:relu()
local logits = x:linear { 10, name = "logits" }

return model { output = logits, loss = logits:cross_entropy() }
