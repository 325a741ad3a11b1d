local image = input { 3, 8, 8, name = "image" }
local y = image:relu()

-- nothing is returned
