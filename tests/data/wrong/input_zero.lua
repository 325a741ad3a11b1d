return input { 3, 0, 8 }
