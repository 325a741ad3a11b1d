-- VGG-16 (Simonyan and Zisserman, 2014), as torchvision builds it.
--
-- Nothing but 3x3 convolutions and pools: two in a row see 5x5, three see 7x7, with fewer
-- weights than one large filter and a ReLU after each.  Of its 138 million weights the
-- first linear layer alone has 103 million.

local image = input { 3, 224, 224, name = "image" }

local layer = 0                                 -- ReLUs and pools count, too

local function stage(x, channels, convolutions)
  for _ = 1, convolutions do
    x = x:conv2d { channels, kernel = 3, pad = 1, name = "features." .. layer }:relu()
    layer = layer + 2
  end
  layer = layer + 1
  return x:maxpool { 2 }
end

local x = stage(image, 64, 2)                   -- 64x112x112
x = stage(x, 128, 2)                            -- 128x56x56
x = stage(x, 256, 3)                            -- 256x28x28
x = stage(x, 512, 3)                            -- 512x14x14
x = stage(x, 512, 3)                            -- 512x7x7

x = x:flatten()                                 -- torchvision first averages to 7x7: here that is nothing
x = x:linear { 4096, name = "classifier.0" }:relu():dropout { 0.5 }
x = x:linear { 4096, name = "classifier.3" }:relu():dropout { 0.5 }
local logits = x:linear { 1000, name = "classifier.6" }

return model { output = { logits = logits }, loss = logits:cross_entropy() }
