-- Backpropagation and the truth about rotating the kernel.  Libraries slide the
-- kernel over the picture as it stands (cross-correlation), so the error must travel
-- back through the kernel rotated by 180 degrees; with a true convolution forward the
-- two change places.  Both are computed here by their definitions, in plain Lua, and
-- compared with what cnnc compiled.
--
--   cnnc run graphs/experiments/convolution.lua

local function matrix(rows, columns, entry)
  local m = {}
  for i = 1, rows do
    m[i] = {}
    for j = 1, columns do m[i][j] = entry(i, j) end
  end
  return m
end

-- Y[m,n] = sum over i,j of X[m+i, n+j] * K[i,j]
local function correlate(x, k)
  return matrix(#x - #k + 1, #x[1] - #k[1] + 1, function(m, n)
    local sum = 0
    for i = 1, #k do
      for j = 1, #k[1] do sum = sum + x[m + i - 1][n + j - 1] * k[i][j] end
    end
    return sum
  end)
end

local function rotate(k)
  return matrix(#k, #k[1], function(i, j) return k[#k + 1 - i][#k[1] + 1 - j] end)
end

-- With zeros around it, so that a kernel of the given size meets every overlap.
local function padded(y, size)
  return matrix(#y + 2 * (size - 1), #y[1] + 2 * (size - 1), function(i, j)
    local row = y[i - size + 1]
    return row and row[j - size + 1] or 0
  end)
end

local function show(title, found, expected)
  print(title)
  for i = 1, #expected do
    local row = {}
    for j = 1, #expected[1] do
      row[j] = string.format("%9.4f", found[i][j])
      local difference = math.abs(found[i][j] - expected[i][j])
      if difference > 1e-4 then
        error(string.format("%s: row %d, column %d: found %g, the definition says %g", title, i, j,
                            found[i][j], expected[i][j]))
      end
    end
    print("  " .. table.concat(row))
  end
end

local x = matrix(5, 5, function(i, j) return (3 * i + 5 * j * j) % 7 - 3 end)
local target = matrix(3, 3, function() return 0 end)

-- forward, dK and dX by definition; the loss is the mean of Y squared, so dY = 2 Y / 9
local function compare(title, file, definition)
  local m = load_model(file):compile { batch = 1 }
  local k = m:params()["filter.weight"][1][1]
  local y = m:forward { x }[1]
  local _, dx = m:backward({ x }, { target })
  local dk = m:grads()["filter.weight"][1][1]

  local dy = matrix(#y, #y[1], function(i, j) return 2 * y[i][j] / 9 end)
  local expected = definition(k, dy)
  print("--- " .. title)
  show("Y", y, expected.y)
  show("dL/dK", dk, expected.dk)
  show("dL/dX", dx[1], expected.dx)
end

compare("cross-correlation forward: the error returns through the rotated kernel",
        "graphs/cross_correlation.lua", function(k, dy)
  return { y = correlate(x, k), dk = correlate(x, dy), dx = correlate(padded(dy, #k), rotate(k)) }
end)

compare("true convolution forward: the error returns through the kernel as it stands",
        "graphs/true_convolution.lua", function(k, dy)
  return { y = correlate(x, rotate(k)), dk = rotate(correlate(x, dy)), dx = correlate(padded(dy, #k), k) }
end)

print "all as defined"
