local x = input { 3 }
error { code = 7 }
