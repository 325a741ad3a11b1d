local image = input { 3, 8, 8, name = "image" }
return model { output = { ["a.b"] = image:relu(), a_b = image:tanh() } }
