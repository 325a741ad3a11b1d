local x = input { 1, 3, 3 }
return x:conv2d { 4, kernel = 5 }
