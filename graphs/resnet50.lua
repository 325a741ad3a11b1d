-- ResNet-50 (He et al., 2015), as torchvision builds it.
--
-- As in resnet18.lua a block adds to its input, but through a bottleneck: a 1x1 convolution
-- leads into a quarter of the channels, the 3x3 one works there, a second 1x1 leads back.
-- That costs about as much as two 3x3 convolutions on a quarter of the channels.

local image = input { 3, 224, 224, name = "image" }

local function conv_bn(x, conv, bn, channels, kernel, stride)
  return x:conv2d { channels, kernel = kernel, stride = stride, pad = kernel // 2, bias = false, name = conv }
          :batchnorm { name = bn }
end

local function bottleneck(x, name, width, stride)
  local channels = 4 * width
  local y = conv_bn(x, name .. ".conv1", name .. ".bn1", width, 1, 1):relu()
  y = conv_bn(y, name .. ".conv2", name .. ".bn2", width, 3, stride):relu()
  y = conv_bn(y, name .. ".conv3", name .. ".bn3", channels, 1, 1)
  if stride > 1 or x.channels ~= channels then  -- the shortcut has to have the same shape
    x = conv_bn(x, name .. ".downsample.0", name .. ".downsample.1", channels, 1, stride)
  end
  return (x + y):relu()
end

local function stage(x, name, width, blocks, stride)
  for i = 0, blocks - 1 do
    x = bottleneck(x, name .. "." .. i, width, i == 0 and stride or 1)
  end
  return x
end

local x = conv_bn(image, "conv1", "bn1", 64, 7, 2):relu()
x = x:maxpool { 3, stride = 2, pad = 1 }
x = stage(x, "layer1", 64, 3, 1)                -- 256x56x56
x = stage(x, "layer2", 128, 4, 2)               -- 512x28x28
x = stage(x, "layer3", 256, 6, 2)               -- 1024x14x14
x = stage(x, "layer4", 512, 3, 2)               -- 2048x7x7
local logits = x:global_avgpool():linear { 1000, name = "fc" }

return model { output = { logits = logits }, loss = logits:cross_entropy() }
