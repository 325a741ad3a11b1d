-- LeNet-5 (LeCun et al., 1998) with ReLU and max pooling: reads handwriting, or clothes.
--
-- Two rounds of convolve, gate, pool turn a picture into 16 small maps of where each
-- feature was found; three fully connected layers weigh these votes.

local image = input { 1, 28, 28, name = "image" }          -- channels, height, width; batch is never written

local x = image:conv2d { 6, kernel = 5, pad = 2 }:relu():maxpool { 2 }
x = x:conv2d { 16, kernel = 5 }:relu():maxpool { 2 }
x = x:flatten():linear { 120 }:relu():linear { 84 }:relu()
local logits = x:linear { 10, name = "logits" }

return model { output = logits, loss = logits:cross_entropy() }
