return input { 16 }:conv2d { 4, kernel = 3 }
