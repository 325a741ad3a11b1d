local x = input { 3 }
error "no network today"
