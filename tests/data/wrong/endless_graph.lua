local x = input { 1 }
while true do
  x = x + 1
end
