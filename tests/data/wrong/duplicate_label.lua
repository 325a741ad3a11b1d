local x = input { 3 }
return model { output = x, loss = x:cross_entropy() + x:cross_entropy() }
