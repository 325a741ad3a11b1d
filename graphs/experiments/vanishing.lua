-- Why ReLU and not sigmoid.  The same deep network, once with each: how much of the
-- error signal reaches each layer?  A sigmoid's slope is at most 1/4, so every layer
-- on the way back shrinks the signal; ReLU's is 1 wherever it is open.  (What ReLU
-- loses, it loses to the half that is shut and to small initial weights.)
--
--   cnnc run graphs/experiments/vanishing.lua

local dir = "/usr/share/datasets/fashion-mnist/"
local test = data.idx(dir .. "t10k-images-idx3-ubyte.gz", dir .. "t10k-labels-idx1-ubyte.gz")
local few = test:slice(1, 64)

local function gradient_norms(file)
  local m = load_model(file):compile { batch = #few }
  m:init(1)
  m:backward(few.x, few.y)
  return m:grad_norms()
end

local sigmoid = gradient_norms "graphs/deep_sigmoid.lua"
local relu = gradient_norms "graphs/deep_relu.lua"

print "length of the gradient, layer by layer, last layer first"
print(string.format("%-8s %12s %12s", "layer", "sigmoid", "ReLU"))
for i = #relu, 1, -1 do
  print(string.format("%-8s %12.3e %12.3e", relu[i].name, sigmoid[i].norm, relu[i].norm))
end

local function kept(norms) return norms[1].norm / norms[#norms].norm end
print(string.format("%-8s %12.3e %12.3e   first layer : last layer", "kept", kept(sigmoid), kept(relu)))
assert(kept(relu) > 100 * kept(sigmoid), "the sigmoid's gradient should vanish much faster")
