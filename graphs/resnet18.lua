-- ResNet-18 (He et al., 2015), as torchvision builds it.
--
-- Each block computes what to add to its input: x + f(x).  On the way back the gradient
-- passes the addition unchanged, so that depth does not make it vanish.

local image = input { 3, 224, 224, name = "image" }

local function conv_bn(x, conv, bn, channels, kernel, stride)
  return x:conv2d { channels, kernel = kernel, stride = stride, pad = kernel // 2, bias = false, name = conv }
          :batchnorm { name = bn }
end

local function basic_block(x, name, channels, stride)
  local y = conv_bn(x, name .. ".conv1", name .. ".bn1", channels, 3, stride):relu()
  y = conv_bn(y, name .. ".conv2", name .. ".bn2", channels, 3, 1)
  if stride > 1 or x.channels ~= channels then  -- the shortcut has to have the same shape
    x = conv_bn(x, name .. ".downsample.0", name .. ".downsample.1", channels, 1, stride)
  end
  return (x + y):relu()
end

local function stage(x, name, channels, stride)
  x = basic_block(x, name .. ".0", channels, stride)
  return basic_block(x, name .. ".1", channels, 1)
end

local x = conv_bn(image, "conv1", "bn1", 64, 7, 2):relu()
x = x:maxpool { 3, stride = 2, pad = 1 }
x = stage(x, "layer1", 64, 1)                   -- 64x56x56
x = stage(x, "layer2", 128, 2)                  -- 128x28x28
x = stage(x, "layer3", 256, 2)                  -- 256x14x14
x = stage(x, "layer4", 512, 2)                  -- 512x7x7
local logits = x:global_avgpool():linear { 1000, name = "fc" }

return model { output = { logits = logits }, loss = logits:cross_entropy() }
