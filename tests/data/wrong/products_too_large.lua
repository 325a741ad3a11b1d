return input { 1, 46341 }:reshape { 46341 }:linear { 46341 }
