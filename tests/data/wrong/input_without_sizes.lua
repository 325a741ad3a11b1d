return input {}
