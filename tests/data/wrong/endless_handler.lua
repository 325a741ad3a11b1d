xpcall(function()
  while true do end
end, function(message)
  while true do end
end)
