return input { math.random(3) }
