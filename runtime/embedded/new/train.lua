-- Draws pictures of lines and trains the network on them.  Your own pictures, a folder for each
-- kind, are read by data.images "folder".
local size = 12

-- A line of kind 0 (horizontal), 1 (vertical) or 2 (diagonal) on a noisy ground.
local function draw(kind)
  local place, picture = math.random(3, size - 2), {}
  for row = 1, size do
    picture[row] = {}
    for column = 1, size do
      local at = kind == 0 and row or kind == 1 and column or row - column + size // 2
      picture[row][column] = (at == place and 1 or 0) + 0.3 * math.random()
    end
  end
  return { picture }                                       -- one channel
end

local function pictures(count)
  local x, y = {}, {}
  for i = 1, count do
    y[i] = (i - 1) % 3
    x[i] = draw(y[i])
  end
  return data.tensor(x, y)
end

math.randomseed(1)
local train, test = pictures(600), pictures(300)
local m = load_model("@name@.lua"):compile { batch = 20 }
m:init(1)
for epoch = 1, 4 do
  local loss = m:fit(train, { optimizer = adam { lr = 0.005 }, shuffle = epoch, report = "report.html" })
  print(string.format("epoch %d: loss %.4f, %.1f %% right", epoch, loss, 100 * m:accuracy(test)))
end
m:save "@name@.safetensors"
