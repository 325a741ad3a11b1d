-- ResNet-8 for CIFAR-10, as in the MLPerf Tiny benchmark.
--
-- A residual stack computes what to add to its input: x + f(x).  On the way back the
-- gradient passes the addition unchanged, so that depth does not make it vanish.

local image = input { 3, 32, 32, name = "image" }

local function conv(x, channels, kernel, stride)
  return x:conv2d { channels, kernel = kernel, stride = stride, pad = "same" }
end

local function stack(x, channels, stride)
  local y = conv(x, channels, 3, stride):batchnorm():relu()
  y = conv(y, channels, 3, 1):batchnorm()
  if stride > 1 or x.channels ~= channels then
    x = conv(x, channels, 1, stride)            -- the shortcut has to have the same shape
  end
  return (x + y):relu()
end

local x = conv(image, 16, 3, 1):batchnorm():relu()
x = stack(x, 16, 1)                             -- 16x32x32
x = stack(x, 32, 2)                             -- 32x16x16
x = stack(x, 64, 2)                             -- 64x8x8
x = x:avgpool { 8 }:flatten()
local logits = x:linear { 10, name = "logits" }

return model { output = logits, loss = logits:cross_entropy() }
