local x = input { 3, 8, 8 }
return x:relu(
