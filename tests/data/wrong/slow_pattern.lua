return string.rep("a", 10000):find(".-.-.-b")
