-- DS-CNN for keyword spotting, as in the MLPerf Tiny benchmark (Zhang et al., Hello Edge, 2017):
-- one second of speech as 49 frames of 10 coefficients, one of 12 words.

local speech = input { 1, 49, 10, name = "speech" }

local function norm(x)
  return x:batchnorm():relu()
end

local x = norm(speech:conv2d { 64, kernel = { 10, 4 }, stride = 2, pad = "same" })      -- 64x25x5
x = x:dropout { 0.2 }
for _ = 1, 4 do                                 -- a filter a channel, then what channels have to do with each other
  x = norm(x:conv2d { 64, kernel = 3, pad = "same", groups = 64 })
  x = norm(x:conv2d { 64, kernel = 1 })
end
x = x:dropout { 0.4 }:avgpool { { 25, 5 } }:flatten()
local word = x:linear { 12, name = "word" }

return model { output = word, loss = word:cross_entropy() }
