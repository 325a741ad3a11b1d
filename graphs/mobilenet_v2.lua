-- MobileNetV2 (Sandler et al., 2018), as torchvision builds it: made for telephones.
--
-- A full convolution looks around and mixes channels at once.  Here the two are apart: a
-- depthwise filter looks around within its own channel, 1x1 convolutions mix.  A residual
-- block is inverted, thin outside and wide inside, so that little is kept between blocks.

local image = input { 3, 224, 224, name = "image" }

local function conv(x, name, channels, kernel, stride, groups)
  return x:conv2d { channels, kernel = kernel, stride = stride, pad = kernel // 2, groups = groups,
                    bias = false, name = name }
end

local function conv_bn_relu(x, name, ...)
  return conv(x, name .. ".0", ...):batchnorm { name = name .. ".1" }:relu6()
end

local function inverted_residual(x, name, channels, stride, widening)
  local wide, y, layer = widening * x.channels, x, 0
  if widening > 1 then
    y = conv_bn_relu(y, name .. ".conv.0", wide, 1, 1)
    layer = 1
  end
  y = conv_bn_relu(y, name .. ".conv." .. layer, wide, 3, stride, wide)
  y = conv(y, name .. ".conv." .. layer + 1, channels, 1, 1)
  y = y:batchnorm { name = name .. ".conv." .. layer + 2 }          -- no ReLU: thin maps can spare nothing
  return stride == 1 and x.channels == channels and x + y or y
end

local stages = {
  { widening = 1, channels = 16,  blocks = 1, stride = 1 },         -- 16x112x112
  { widening = 6, channels = 24,  blocks = 2, stride = 2 },         -- 24x56x56
  { widening = 6, channels = 32,  blocks = 3, stride = 2 },         -- 32x28x28
  { widening = 6, channels = 64,  blocks = 4, stride = 2 },         -- 64x14x14
  { widening = 6, channels = 96,  blocks = 3, stride = 1 },
  { widening = 6, channels = 160, blocks = 3, stride = 2 },         -- 160x7x7
  { widening = 6, channels = 320, blocks = 1, stride = 1 },
}

local x = conv_bn_relu(image, "features.0", 32, 3, 2)
local block = 0
for _, stage in ipairs(stages) do
  for i = 1, stage.blocks do
    block = block + 1
    local stride = i == 1 and stage.stride or 1
    x = inverted_residual(x, "features." .. block, stage.channels, stride, stage.widening)
  end
end
x = conv_bn_relu(x, "features.18", 1280, 1, 1)
x = x:global_avgpool():dropout { 0.2 }
local logits = x:linear { 1000, name = "classifier.1" }

return model { output = { logits = logits }, loss = logits:cross_entropy() }
