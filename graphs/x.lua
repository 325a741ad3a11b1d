-- Three filters look for the strokes of an X in a 9x9 picture of -1 and +1.
--
-- Each filter is laid over every 3x3 patch, multiplied cell by cell, added up and
-- divided by the number of cells: 1 means "my pattern is here", 0 or less "it is not".

local image = input { 1, 9, 9, name = "image" }

-- One output channel per filter, one input channel: {{row, row, row}}.
local function filter(rows)
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      row[i] = cell / 9
    end
  end
  return { rows }
end

local diagonal = filter {
  {  1, -1, -1 },
  { -1,  1, -1 },
  { -1, -1,  1 },
}
local cross = filter {
  {  1, -1,  1 },
  { -1,  1, -1 },
  {  1, -1,  1 },
}
local antidiagonal = filter {
  { -1, -1,  1 },
  { -1,  1, -1 },
  {  1, -1, -1 },
}

local map = image:conv2d {
  3, kernel = 3, bias = false, name = "strokes",
  weight = { diagonal, cross, antidiagonal }, trainable = false,
}

return model {
  output = {
    map = map,                                  -- 3x7x7: (9 - 3)/1 + 1 = 7
    relu = map:relu(),                          -- is the feature present? the negative answers become 0
    pooled = map:maxpool { 2, ceil = true },    -- 3x4x4: the strongest answer of every 2x2, cut at the edge
  },
}
