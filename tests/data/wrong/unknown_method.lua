local image = input { 3, 8, 8, name = "image" }
return image:conv4d { 4, kernel = 3 }
