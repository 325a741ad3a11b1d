local image = input { 3, 8, 8, name = "image" }
local ok, message = pcall(image.conv2d, image, { 4 })
error(message, 0)
