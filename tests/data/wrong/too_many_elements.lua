return input { 70000, 70000 }
