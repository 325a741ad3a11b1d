-- LeNet-5 learns to tell ten kinds of clothes apart.
--
--   cnnc run graphs/experiments/fashion.lua [EPOCHS [WEIGHTS [LABELS]]]
--
-- WEIGHTS is the file that the trained parameters go to; LABELS gets the model's
-- answer to each test picture, one byte each.

local epochs = tonumber(arg[1] or 3)
local weights = arg[2] or "lenet5.safetensors"
local answers = arg[3]

local dir = "/usr/share/datasets/fashion-mnist/"
local train = data.idx(dir .. "train-images-idx3-ubyte.gz", dir .. "train-labels-idx1-ubyte.gz")
local test = data.idx(dir .. "t10k-images-idx3-ubyte.gz", dir .. "t10k-labels-idx1-ubyte.gz")

local m = load_model("graphs/lenet5.lua"):compile { batch = 64, jit = "tcc" }
m:init(42)
for epoch = 1, epochs do
  local loss = m:fit(train, { optimizer = sgd { lr = 0.05, momentum = 0.9 }, shuffle = epoch })
  print(string.format("epoch %d: loss %.4f, %.2f %% of the test pictures right", epoch, loss,
                      100 * m:accuracy(test)))
end
m:save(weights)
print("parameters saved to " .. weights)

-- The class with the highest score; the first one where two are equal.
local function strongest(scores)
  local best = 1
  for class, score in ipairs(scores) do
    if score > scores[best] then best = class end
  end
  return best - 1
end

if answers then
  local file = assert(io.open(answers, "wb"))
  for first = 1, #test, 1000 do
    local scores = m:forward(test:slice(first, math.min(first + 999, #test)).x)
    for _, row in ipairs(scores) do file:write(string.char(strongest(row))) end
  end
  assert(file:close())
end
