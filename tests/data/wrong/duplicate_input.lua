return input { 3 } + input { 3 }
