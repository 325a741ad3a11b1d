local function block(x, channels)
  x = x:relu()
  return x:conv2d { channels, kernel = 5 }
end

local function two(x)
  x = block(x, 4)
  x = block(x, 4)
  return x
end

local x = two(input { 1, 8, 8 })
return x
