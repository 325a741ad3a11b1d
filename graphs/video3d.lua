-- Slides over time, too: a small 3-D network that tells actions in a clip apart.
--
-- A colour picture is still a 2-D convolution, since the window moves along height and
-- width alone.  Here it also moves along depth, the 8 frames of the clip.

local clip = input { 3, 8, 32, 32, name = "clip" }         -- channels, depth, height, width

local x = clip:conv3d { 8, kernel = 3, pad = 1 }:relu()
x = x:maxpool { kernel = { 1, 2, 2 } }          -- 8x8x16x16: time is kept
x = x:conv3d { 16, kernel = 3, pad = 1 }:relu()
x = x:maxpool { 2 }                             -- 16x4x8x8
local logits = x:global_avgpool():linear { 5, name = "actions" }

return model { output = logits, loss = logits:cross_entropy() }
