-- Experiments: scripts for cnnc run.

---Numbers with a shape; tables of numbers become tensors where one is expected.
---@class cnnc.Tensor
---@field shape integer[]
---@field count integer
---@field [integer] number|cnnc.Tensor
local Tensor = {}

---@param numbers number|table|cnnc.Tensor
---@return cnnc.Tensor
function tensor(numbers) end

---Labelled samples; #dataset is their number.
---@class cnnc.Dataset
---@field classes integer
---@field name string
---@field shape integer[] of a sample
---@field x cnnc.Tensor all samples
---@field y cnnc.Tensor? their labels
local Dataset = {}

---The samples first to last, counted from 1.
---@param first integer
---@param last integer
---@return cnnc.Dataset
function Dataset:slice(first, last) end

---Readers of datasets.
data = {}

---IDX files as of MNIST, also compressed; bytes become 0 to 1.
---@param images string
---@param labels string?
---@return cnnc.Dataset
function data.idx(images, labels) end

---NumPy files: float32 samples, int32 or int64 labels.
---@param samples string
---@param labels string?
---@return cnnc.Dataset
function data.npy(samples, labels) end

---CIFAR-10's binary files.
---@param ... string
---@return cnnc.Dataset
function data.cifar(...) end

---Pictures of one size, a folder for each class.
---@param folder string
---@return cnnc.Dataset
function data.images(folder) end

---Samples that the script has made.
---@param x cnnc.Tensor|table
---@param y? cnnc.Tensor|integer[]
---@return cnnc.Dataset
function data.tensor(x, y) end

---@class cnnc.Optimizer

---Stochastic gradient descent by PyTorch's rule.
---@param options { lr: number, momentum: number?, weight_decay: number? }
---@return cnnc.Optimizer
function sgd(options) end

---Adam with PyTorch's defaults.
---@param options { lr: number?, beta1: number?, beta2: number?, eps: number?, weight_decay: number? }
---@return cnnc.Optimizer
function adam(options) end

---@class cnnc.Network
local Network = {}

---A network file, read in its sandbox.
---@param file string
---@return cnnc.Network
function load_model(file) end

---@class cnnc.compile.settings
---@field batch? integer samples of a step (default 1)
---@field jit? "tcc"|"cc"|"eval" how it is compiled (default tcc)
---@field target? string processor (default native)
---@field train? boolean with gradients (default: when there is a loss)

---@param options? cnnc.compile.settings
---@return cnnc.Trained
function Network:compile(options) end

---A compiled network with parameters.
---@class cnnc.Trained
local Trained = {}

---Initial parameters, drawn from the seed.
---@param seed integer?
function Trained:init(seed) end

---@class cnnc.fit.settings
---@field optimizer cnnc.Optimizer sgd { ... } or adam { ... }
---@field shuffle? boolean|integer another order in each epoch, or the one that a number stands for
---@field log? string CSV file that gets a row a step
---@field report? string page that shows the run while it lasts
---@field csv? string CSV file that gets what the page shows
---@field tensorboard? string folder for TensorBoard's event files
---@field checkpoint? string file from which an interrupted run goes on
---@field checkpoint_every? integer steps between two (default: by time)

---One epoch; returns the mean loss.
---@param dataset cnnc.Dataset
---@param options cnnc.fit.settings
---@return number
function Trained:fit(dataset, options) end

---The fraction that is right.
---@param dataset cnnc.Dataset
---@return number
function Trained:accuracy(dataset) end

---Writes the parameters as .safetensors.
---@param file string
function Trained:save(file) end

---Reads the parameters from .safetensors.
---@param file string
function Trained:load(file) end

---The output, or a table by name where there are several.
---@param x cnnc.Tensor|table
---@return cnnc.Tensor|table<string, cnnc.Tensor>
function Trained:forward(x) end

---The mean loss, and the gradient of the input (or a table by name).
---@param x cnnc.Tensor|table
---@param y cnnc.Tensor|table|integer
---@return number
---@return cnnc.Tensor|table<string, cnnc.Tensor>
function Trained:backward(x, y) end

---The parameters by name.
---@return table<string, cnnc.Tensor>
function Trained:params() end

---The gradients of the last step or backward, by name.
---@return table<string, cnnc.Tensor>
function Trained:grads() end

---The length of each layer's gradient, in order.
---@return { name: string, norm: number }[]
function Trained:grad_norms() end
