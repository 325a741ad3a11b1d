-- MobileNet (Howard et al., 2017) with a quarter of the channels on 96x96 pixels: is there a person
-- in the picture?  As in the MLPerf Tiny benchmark.

local image = input { 3, 96, 96, name = "image" }

local function norm(x)
  return x:batchnorm():relu()
end

local function separable(x, channels, stride)
  x = norm(x:conv2d { x.channels, kernel = 3, stride = stride, pad = "same", groups = x.channels, bias = false })
  return norm(x:conv2d { channels, kernel = 1, bias = false })
end

local x = norm(image:conv2d { 8, kernel = 3, stride = 2, pad = "same", bias = false })  -- 8x48x48
x = separable(x, 16, 1)
x = separable(x, 32, 2)                         -- 32x24x24
x = separable(x, 32, 1)
x = separable(x, 64, 2)                         -- 64x12x12
x = separable(x, 64, 1)
x = separable(x, 128, 2)                        -- 128x6x6
for _ = 1, 5 do
  x = separable(x, 128, 1)
end
x = separable(x, 256, 2)                        -- 256x3x3
x = separable(x, 256, 1)
local person = x:global_avgpool():linear { 2, name = "person" }

return model { output = person, loss = person:cross_entropy() }
