-- cnnc run tests/pytorch/running.lua FOLDER
--
-- ResNet-8 takes 20 steps on 320 made up pictures, which go to FOLDER/data in CIFAR-10's format; the
-- parameters that it starts from go to FOLDER/start.  Prints of every running statistic the root
-- mean square and the largest magnitude.  At ten times the rate rounding grows to more than 1e-3,
-- with PyTorch in float and in double as well.

local folder = arg[1]
local batch, steps = 16, 20

-- Each picture has colours of its own: their mean matters as much as their noise.
local state = 1
local function random(below)
  state = (state * 1103515245 + 12345) % 2147483648
  return state // 65536 % below
end

local file = assert(io.open(folder .. "/data", "wb"))
for _ = 1, batch * steps do
  file:write(string.char(random(10)))
  for _ = 1, 3 do
    local low, bytes = random(128), {}
    for i = 1, 32 * 32 do bytes[i] = string.char(low + random(128)) end
    file:write(table.concat(bytes))
  end
end
assert(file:close())

local m = load_model("graphs/resnet8.lua"):compile { batch = batch }
m:init(1)
m:save(folder .. "/start")
m:fit(data.cifar(folder .. "/data"), { optimizer = sgd { lr = 0.001, momentum = 0.9 } })

local params = m:params()
for layer = 1, 7 do
  for _, statistic in ipairs { "running_mean", "running_var" } do
    local name = "batchnorm" .. layer .. "." .. statistic
    local sum, largest = 0, 0
    for _, value in ipairs(params[name]) do
      sum = sum + value * value
      largest = math.max(largest, math.abs(value))
    end
    print(string.format("%s %.6g %.6g", name, math.sqrt(sum / #params[name]), largest))
  end
end
