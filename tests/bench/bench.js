// node bench.js [--tables inference,training] [--threads 1,2] [--seconds 20] [--write FILE.md] [NETWORK...]
//
// The networks of graphs/ by ONNX Runtime and by cnnc, and their training by PyTorch and by
// cnnc, in turns: see `method` of each table below.  Runs in the project's folder, beside
// build/bench/to_onnx, build/bench/turns and the npm package onnxruntime-node in
// build/bench/node_modules; `make bench` sees to that.
'use strict'

const { execFileSync, spawn } = require('child_process')
const fs = require('fs')
const os = require('os')
const readline = require('readline')
const { parseArgs } = require('util')

const folder = 'build/bench'
const package_folder = `${process.cwd()}/${folder}/node_modules/onnxruntime-node`
const python = '/usr/bin/python3'               // Debian's, which Debian's PyTorch belongs to
const slice = 100               // milliseconds of a turn
const rounds = 40               // at most
const tolerance = 1e-3          // of the largest output

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

function median(list) {
  const sorted = [...list].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

// ---------------------------------------------------------------- the two sides

// A processor for each of its threads but the caller's, counted from 1.
function affinities(threads) {
  const list = Array.from({ length: threads - 1 }, (_, i) => i + 2).join(';')
  return threads > 1 ? { extra: { session: { intra_op_thread_affinities: list } } } : {}
}

class OnnxRuntime {
  constructor(model, threads) {
    // The native session behind the public one, which wraps a promise around every run: that costs
    // LeNet-5 as much as a convolution.
    const { binding, initOrt } = require(`${package_folder}/dist/binding`)
    initOrt()
    this.session = new binding.InferenceSession()
    this.session.loadModel(model, {
      executionProviders: ['cpu'], intraOpNumThreads: threads, interOpNumThreads: 1,
      executionMode: 'sequential', graphOptimizationLevel: 'all', ...affinities(threads)
    })
    if (threads > 1) {          // the thread that calls has the first processor
      execFileSync('taskset', ['-p', '-c', '0', String(process.pid)])
    }
    this.shape = this.session.inputMetadata[0].shape
  }

  setInput(values) {
    const ort = require(package_folder)
    this.feeds = { [this.session.inputMetadata[0].name]: new ort.Tensor('float32', values, this.shape) }
    this.fetches = { [this.session.outputMetadata[0].name]: null }
  }

  output() {
    return Object.values(this.session.run(this.feeds, this.fetches, {}))[0].data
  }

  timed() {
    const begin = performance.now()
    this.session.run(this.feeds, this.fetches, {})
    return performance.now() - begin
  }

  // As take_turn in turns.c.
  async turn() {
    const end = performance.now() + slice
    const first = this.timed()
    const times = first >= slice ? [first] : []
    while (times.length === 0 || performance.now() < end) {
      times.push(this.timed())
    }
    return times
  }

  close() {
    this.session.dispose()
  }
}

// A process that answers each line on its standard input by a line of JSON.
class Child {
  constructor(command, args, environment) {
    const all = `0-${os.cpus().length - 1}`     // whatever this process was given
    this.command = [command, ...args].join(' ')
    this.process = spawn('taskset', ['-c', all, command, ...args.map(String)],
                         { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...environment } })
    this.process.on('error', error => console.error(`bench: ${error.message}`))
    this.lines = readline.createInterface({ input: this.process.stdout })[Symbol.asyncIterator]()
  }

  async read() {
    const line = await this.lines.next()
    if (line.done) {
      throw new Error(`has stopped: ${this.command}`)
    }
    return JSON.parse(line.value)
  }

  turn(...words) {
    this.process.stdin.write(`${[...words, slice].join(' ')}\n`)
    return this.read()
  }

  close() {
    this.process.stdin.end()
  }
}

// ------------------------------------------------------------------ one network

// Any numbers will do, as long as they are neither all alike nor large.
function inputOf(shape) {
  const count = shape.reduce((a, b) => a * b)
  return Float32Array.from({ length: count }, (_, i) => Math.sin(i * i))
}

function difference(expected, found) {
  const apart = expected.map((value, i) => Math.abs(value - found[i]))
  const largest = expected.map(Math.abs)
  return expected.length === found.length ? Math.max(...apart) / Math.max(...largest) : NaN
}

async function takeTurns(sides, seconds) {
  const names = Object.keys(sides)
  const medians = Object.fromEntries(names.map(name => [name, []]))
  const end = performance.now() + 1000 * seconds
  for (let round = 0; round === 0 || (round < rounds && performance.now() < end); round++) {
    for (const name of names) {
      medians[name].push(median(await sides[name]()))
      await sleep(20)           // until threads that wait for work in a loop give up
    }
    names.reverse()
  }
  return Object.fromEntries(Object.entries(medians).map(([name, list]) => [name, median(list)]))
}

// cnnc's side; `facts` is what it says about its two forms when it is ready.
async function openCnnc(...args) {
  const cnnc = new Child(`${folder}/turns`, args)
  cnnc.facts = {}
  for (let i = 0; i < 2; i++) {
    const fact = await cnnc.read()
    cnnc.facts[fact.jit] = fact
  }
  return cnnc
}

function largestDifference(expected, facts) {
  return Math.max(...['cc', 'tcc'].map(jit => difference(expected, facts[jit].output)))
}

// -------------------------------------------------------------------- inference

async function infer(name, batch, threads, seconds) {
  const file = `${folder}/${name}`
  const network = `graphs/${name}.lua`
  execFileSync(`${folder}/to_onnx`, [network, `${file}.onnx`, `${file}.safetensors`], { stdio: 'inherit' })
  const onnx = new OnnxRuntime(`${file}.onnx`, threads)
  const input = inputOf(onnx.shape)
  fs.writeFileSync(`${file}.input`, input)
  onnx.setInput(input)
  const cnnc = await openCnnc(network, `${file}.safetensors`, `${file}.input`, threads)
  const row = { name, threads, facts: cnnc.facts }
  row.difference = largestDifference(Array.from(onnx.output()), row.facts)
  const sides = { onnx: () => onnx.turn(), cc: () => cnnc.turn('cc'), tcc: () => cnnc.turn('tcc') }
  row.ms = await takeTurns(sides, seconds)
  cnnc.close()
  onnx.close()
  return row
}

// A table: its name in messages and marks, its networks with their batch, what measures a row, the
// columns, the other side's version, the text below.
const inference = {
  name: 'inference',
  batch: { lenet5: 1, cifar_cnn: 1, squeezenet1_1: 1, mobilenet_v2: 1, resnet18: 1, resnet50: 1, vgg16: 1 },
  compare: infer,
  columns: [
    ['network', row => row.name],
    ['threads', row => row.threads],
    ['ONNX Runtime ms', row => figures(row.ms.onnx)],
    ['cnnc gcc ms', row => figures(row.ms.cc)],
    ['cnnc tcc ms', row => figures(row.ms.tcc)],
    ['ONNX Runtime / gcc', row => (row.ms.onnx / row.ms.cc).toFixed(2)],
    ['ONNX Runtime / tcc', row => (row.ms.onnx / row.ms.tcc).toFixed(2)],
    ['gcc / tcc', row => (row.ms.cc / row.ms.tcc).toFixed(2)],
    ['gcc compiles, ms', row => Math.round(row.facts.cc.compile_ms)],
    ['tcc compiles, ms', row => figures(row.facts.tcc.compile_ms)],
    ['workspace bytes', row => row.facts.cc.workspace_bytes],
    ['difference', row => row.difference.toExponential(1)]
  ],
  other: () => `ONNX Runtime ${require(`${package_folder}/package.json`).version}`,
  method: `
Batch 1, float32, the same random weights and input on both sides. ONNX Runtime runs the network as
\`tests/bench/to_onnx\` exports it, through the npm package's native session (CPU provider, all graph
optimisations); cnnc runs in a second process, as C compiled by the system's compiler and by libtcc.
The three take turns, each round in the opposite order of the one before, so that what slows the
machine down slows down all. A turn is one run to warm the caches and then runs for ${slice} ms; it counts
with its median, and the table has the median over all rounds. A run that takes longer than a turn
is a turn. With several threads each has a processor of its own: OpenMP's, those of cnnc's pool and
ONNX Runtime's. While one side runs the other sleeps. "Difference" is the largest between the outputs of
ONNX Runtime and either form of cnnc's, in units of the largest output. Compile times are those of
the C compilers alone.`
}

// --------------------------------------------------------------------- training

// glibc keeps what PyTorch frees, instead of asking the system for it again in every step.
const kept = {
  MALLOC_TRIM_THRESHOLD_: 2 ** 32, MALLOC_MMAP_THRESHOLD_: 2 ** 32, MALLOC_TOP_PAD_: 2 ** 26
}

async function train(name, batch, threads, seconds) {
  const file = `${folder}/${name}`
  const network = `${file}_train.lua`
  const text = fs.readFileSync(`graphs/${name}.lua`, 'utf8')
  fs.writeFileSync(network, text.replace(/:dropout *\{[^}]*\}/g, ''))
  const start = [`${file}.start`, `${file}.samples`]
  const cnnc = await openCnnc('--train', batch, network, ...start, threads)
  const own = threads > 1 ? { OMP_PROC_BIND: 'true', OMP_PLACES: 'threads' } : {}
  const torch = new Child(python, ['-B', 'tests/pytorch/train.py', name, batch, ...start, threads],
                          { ...kept, ...own })
  const { output, grown_bytes } = await torch.read()
  const row = { name, batch, threads, facts: cnnc.facts, grown_bytes }
  row.difference = largestDifference(output, row.facts)
  const sides = { torch: () => torch.turn(), cc: () => cnnc.turn('cc'), tcc: () => cnnc.turn('tcc') }
  row.ms = await takeTurns(sides, seconds)
  cnnc.close()
  torch.close()
  return row
}

const training = {
  name: 'training',
  batch: { lenet5: 64, cifar_cnn: 64, mobilenet_v2: 8, resnet18: 8 },
  compare: train,
  columns: [
    ['network', row => row.name],
    ['batch', row => row.batch],
    ['threads', row => row.threads],
    ['PyTorch images/s', row => figures(1e3 * row.batch / row.ms.torch)],
    ['cnnc gcc images/s', row => figures(1e3 * row.batch / row.ms.cc)],
    ['cnnc tcc images/s', row => figures(1e3 * row.batch / row.ms.tcc)],
    ['PyTorch / gcc', row => (row.ms.torch / row.ms.cc).toFixed(2)],
    ['PyTorch / tcc', row => (row.ms.torch / row.ms.tcc).toFixed(2)],
    ['gcc / tcc', row => (row.ms.cc / row.ms.tcc).toFixed(2)],
    ['workspace bytes', row => row.facts.cc.workspace_bytes],
    ['PyTorch grows, bytes', row => row.grown_bytes],
    ['difference', row => row.difference.toExponential(1)]
  ],
  other: () => `PyTorch ${firstLine(python, '-c', 'import torch; print(torch.__version__)')}`,
  method: `
One step is forward, backward and SGD with momentum, in training mode, from the same weights with the
same batch on both sides. PyTorch is Debian's, with oneDNN and OpenBLAS, in a process of its own that runs
\`tests/pytorch/train.py\`: memory format channels_last, gradients set to None, glibc's malloc told to keep
what is freed, with several threads each bound to a processor. The sides take turns as above. Ratios are of
times: above 1 the second is the faster. MobileNetV2 trains without its dropout, whose draws are each side's own.
Memory is what a step takes beside parameters, gradients and momenta: cnnc's workspace, and by how
much the first step of a fresh process raises PyTorch's peak of resident memory, the code that
it touches included. "Difference" is the largest between the losses of PyTorch and either form of cnnc's in
the first two steps, the second of which has seen the gradients, in units of the largest loss.`
}

// --------------------------------------------------------------------- reports

function figures(number) {
  return String(Number(number.toPrecision(3)))
}

function table(columns, rows) {
  const line = cells => `| ${cells.join(' | ')} |\n`
  return line(columns.map(([title]) => title)) + line(columns.map(() => '---')) +
         rows.map(row => line(columns.map(([, cell]) => cell(row)))).join('')
}

function firstLine(command, ...args) {
  return execFileSync(command, args, { encoding: 'utf8' }).split('\n')[0]
}

function machine(other) {
  const [compiler, ...words] = (process.env.CC || 'cc').split(' ')
  return `${os.cpus()[0].model.trim()}, ${os.cpus().length} processors; ` +
         `${firstLine('build/cnnc', '--version')}, ${firstLine(compiler, ...words, '--version')}, ` +
         `${other}; ${new Date().toISOString().slice(0, 10)}.\n`
}

// What stands around the marks in an existing file stays there.
function writeReport(file, name, text) {
  const marks = [`<!-- make bench writes ${name} from here -->\n`, '<!-- to here -->\n']
  const old = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '# Performance\n\n' + marks.join('')
  const begin = old.indexOf(marks[0])
  const end = old.indexOf(marks[1], begin)
  if (begin < 0 || end < 0) {
    throw new Error(`${file}: the line ${marks[begin < 0 ? 0 : 1].trim()} is missing`)
  }
  fs.writeFileSync(file, old.slice(0, begin) + marks[0] + text + old.slice(end))
}

// Prints each row when it is there.
async function measure({ name, batch, compare, columns, other, method }, values, networks) {
  const rows = []
  const chosen = Object.keys(batch).filter(network => !networks.length || networks.includes(network))
  for (const threads of values.threads.split(',').map(Number)) {
    for (const network of chosen) {
      const row = await compare(network, batch[network], threads, Number(values.seconds))
      const lines = table(columns, [row]).trimEnd().split('\n')
      console.log(rows.push(row) === 1 ? lines.join('\n') : lines.pop())
    }
  }
  if (values.write) {
    writeReport(values.write, name, `${machine(other())}\n${table(columns, rows)}${method}\n`)
  }
  for (const row of rows.filter(row => !(row.difference <= tolerance))) {
    console.error(`bench: ${name}, ${row.name}: found a difference of ${row.difference} of the largest`)
    process.exitCode = 1
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      tables: { type: 'string', default: 'inference,training' },
      threads: { type: 'string', default: os.cpus().length > 1 ? '1,2' : '1' }, seconds: { type: 'string', default: '20' },
      write: { type: 'string' }
    }
  })
  const unknown = positionals.find(name => !(name in inference.batch))
  if (unknown) {
    throw new Error(`unknown network ${unknown}, expected some of ${Object.keys(inference.batch).join(' ')}`)
  }
  for (const chosen of [inference, training].filter(({ name }) => values.tables.split(',').includes(name))) {
    await measure(chosen, values, positionals)
  }
}

main().catch(error => {
  console.error(`bench: ${error.message}`)
  process.exit(1)
})
