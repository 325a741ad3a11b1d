-- Tells lines in small pictures apart.  cnnc summary @name@.lua shows its layers.
local image = input { 1, 12, 12, name = "image" }          -- channels, height, width

local x = image:conv2d { 6, kernel = 3, pad = "same" }:relu():maxpool { 2 }
x = x:conv2d { 12, kernel = 3, pad = "same" }:relu():maxpool { 2 }
local kind = x:flatten():linear { 3, name = "kind" }       -- horizontal, vertical, diagonal

return model { output = kind, loss = kind:cross_entropy() }
