return input { 3, 7 / 2, 8 }
