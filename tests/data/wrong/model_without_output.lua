local image = input { 3, 8, 8, name = "image" }
return model { loss = image:mse() }
