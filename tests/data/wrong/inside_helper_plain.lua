local function widen(x)
  local channels = x.channel
  return x:linear { 2 * channels }
end

local x = widen(input { 8 })
return x
