-- SqueezeNet 1.1 (Iandola et al., 2016), as torchvision builds it: AlexNet's accuracy on
-- ImageNet with a fiftieth of its weights.
--
-- A fire squeezes its input into a few maps with a 1x1 convolution, and lets these few be
-- looked at by 1x1 and 3x3 filters side by side: most 3x3 filters then are shallow.

local image = input { 3, 224, 224, name = "image" }

local function conv(x, name, channels, kernel, pad)
  return x:conv2d { channels, kernel = kernel, pad = pad, name = name }:relu()
end

local function fire(x, name, squeezed, expanded)
  x = conv(x, name .. ".squeeze", squeezed, 1, 0)
  return concat { conv(x, name .. ".expand1x1", expanded, 1, 0),
                  conv(x, name .. ".expand3x3", expanded, 3, 1) }
end

local function halve(x)
  return x:maxpool { 3, stride = 2, ceil = true }
end

local x = image:conv2d { 64, kernel = 3, stride = 2, name = "features.0" }:relu()
x = halve(x)                                    -- 64x55x55
x = fire(x, "features.3", 16, 64)
x = fire(x, "features.4", 16, 64)
x = halve(x)                                    -- 128x27x27
x = fire(x, "features.6", 32, 128)
x = fire(x, "features.7", 32, 128)
x = halve(x)                                    -- 256x13x13
x = fire(x, "features.9", 48, 192)
x = fire(x, "features.10", 48, 192)
x = fire(x, "features.11", 64, 256)
x = fire(x, "features.12", 64, 256)

-- No linear layer: every place of the map votes for the classes, and the votes are averaged.
x = conv(x:dropout { 0.5 }, "classifier.1", 1000, 1, 0)
local logits = x:global_avgpool()

return model { output = { logits = logits }, loss = logits:cross_entropy() }
