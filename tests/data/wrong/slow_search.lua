local text = string.rep("a", 100000)
return text:find(string.rep("a", 50000) .. "b")
