return input { 16 }:maxpool { 2 }
