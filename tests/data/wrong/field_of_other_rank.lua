return input { 16 }:linear { input { 16, name = "b" }.height }
