return model { output = {} }
