local function widen(x, options)
  local factor = options.factor * 2
  return x:linear { factor }
end

local x = widen(input { 8 })
return x
