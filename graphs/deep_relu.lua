-- Eight convolutions in a row, each behind a ReLU: see experiments/vanishing.lua.
local x = input { 1, 28, 28, name = "image" }
for _ = 1, 8 do
  x = x:conv2d { 8, kernel = 3, pad = 1 }:relu()
end
local logits = x:maxpool { 4 }:flatten():linear { 10, name = "logits" }

return model { output = logits, loss = logits:cross_entropy() }
