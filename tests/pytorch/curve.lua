-- cnnc run tests/pytorch/curve.lua WEIGHTS.safetensors LOG.csv [JIT]
--
-- LeNet-5 takes 100 steps on the first 6400 pictures of Fashion-MNIST, in their order.  WEIGHTS
-- gets the parameters that it starts from, LOG the loss of each step.  Seed and rate are such that
-- rounding stays rounding: at 0.05 the steps from the 60th on are chaotic, and PyTorch in float
-- leaves PyTorch in double by 10 %.

local weights, log, jit = arg[1], arg[2], arg[3] or "tcc"

local dir = "/usr/share/datasets/fashion-mnist/"
local train = data.idx(dir .. "train-images-idx3-ubyte.gz", dir .. "train-labels-idx1-ubyte.gz")

local m = load_model("graphs/lenet5.lua"):compile { batch = 64, jit = jit }
m:init(2)
m:save(weights)
m:fit(train:slice(1, 6400), { optimizer = sgd { lr = 0.01, momentum = 0.9 }, log = log })
