return input(3, 8, 8)
