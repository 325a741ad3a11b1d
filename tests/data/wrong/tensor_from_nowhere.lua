return model { output = image }
