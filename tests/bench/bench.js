// node bench.js [--threads 1,2] [--seconds 20] [--write FILE.md] [NETWORK...]
//
// The networks of graphs/ by ONNX Runtime and by cnnc, in turns: see `method` below.  Runs in
// the project's folder, beside build/bench/to_onnx, build/bench/turns and the npm package
// onnxruntime-node in build/bench/node_modules; `make bench` sees to that.
'use strict'

const { execFileSync, spawn } = require('child_process')
const fs = require('fs')
const os = require('os')
const readline = require('readline')
const { parseArgs } = require('util')

const folder = 'build/bench'
const package_folder = `${process.cwd()}/${folder}/node_modules/onnxruntime-node`
const ort = require(package_folder)
// The native session behind the public one, which wraps a promise around every run: that costs
// LeNet-5 as much as a convolution.
const { binding, initOrt } = require(`${package_folder}/dist/binding`)

const reference = ['lenet5', 'cifar_cnn', 'squeezenet1_1', 'mobilenet_v2', 'resnet18', 'resnet50', 'vgg16']
const slice = 100               // milliseconds of a turn
const rounds = 40               // at most
const tolerance = 1e-3          // of the largest output

const method = `
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

class Cnnc {
  constructor(network, weights, input, threads) {
    const all = `0-${os.cpus().length - 1}`
    this.process = spawn('taskset', ['-c', all, `${folder}/turns`, network, weights, input, String(threads)],
                         { stdio: ['pipe', 'pipe', 'inherit'] })
    this.process.on('error', error => console.error(`bench: ${error.message}`))
    this.lines = readline.createInterface({ input: this.process.stdout })[Symbol.asyncIterator]()
  }

  async read() {
    const line = await this.lines.next()
    if (line.done) {
      throw new Error('turns has stopped')
    }
    return JSON.parse(line.value)
  }

  turn(jit) {
    this.process.stdin.write(`${jit} ${slice}\n`)
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

async function compare(name, threads, seconds) {
  const path = `${folder}/${name}`
  const network = `graphs/${name}.lua`
  execFileSync(`${folder}/to_onnx`, [network, `${path}.onnx`, `${path}.safetensors`], { stdio: 'inherit' })
  const onnx = new OnnxRuntime(`${path}.onnx`, threads)
  const input = inputOf(onnx.shape)
  fs.writeFileSync(`${path}.input`, input)
  onnx.setInput(input)
  const cnnc = new Cnnc(network, `${path}.safetensors`, `${path}.input`, threads)
  const facts = {}
  for (let i = 0; i < 2; i++) {
    const fact = await cnnc.read()
    facts[fact.jit] = fact
  }
  const expected = Array.from(onnx.output())
  const row = { name, threads, facts }
  row.difference = Math.max(...['cc', 'tcc'].map(jit => difference(expected, facts[jit].output)))
  const sides = { onnx: () => onnx.turn(), cc: () => cnnc.turn('cc'), tcc: () => cnnc.turn('tcc') }
  row.ms = await takeTurns(sides, seconds)
  cnnc.close()
  onnx.close()
  return row
}

// -------------------------------------------------------------------- the table

const columns = [
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
]

function figures(number) {
  return String(Number(number.toPrecision(3)))
}

function table(rows) {
  const line = cells => `| ${cells.join(' | ')} |\n`
  return line(columns.map(([title]) => title)) + line(columns.map(() => '---')) +
         rows.map(row => line(columns.map(([, cell]) => cell(row)))).join('')
}

function firstLine(command, ...args) {
  return execFileSync(command, args, { encoding: 'utf8' }).split('\n')[0]
}

function machine() {
  const [compiler, ...words] = (process.env.CC || 'cc').split(' ')
  const { version } = require(`${package_folder}/package.json`)
  return `${os.cpus()[0].model.trim()}, ${os.cpus().length} processors; ` +
         `${firstLine('build/cnnc', '--version')}, ${firstLine(compiler, ...words, '--version')}, ` +
         `ONNX Runtime ${version}; ${new Date().toISOString().slice(0, 10)}.\n`
}

// What stands around the marks in an existing file stays there.
function writeReport(file, text) {
  const marks = ['<!-- make bench writes from here -->\n', '<!-- to here -->\n']
  const old = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '# Performance\n\n' + marks.join('')
  const [begin, end] = marks.map(mark => old.indexOf(mark))
  if (begin < 0 || end < begin) {
    throw new Error(`${file}: the line ${marks[begin < 0 ? 0 : 1].trim()} is missing`)
  }
  fs.writeFileSync(file, old.slice(0, begin) + marks[0] + text + old.slice(end))
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      threads: { type: 'string', default: os.cpus().length > 1 ? '1,2' : '1' }, seconds: { type: 'string', default: '20' },
      write: { type: 'string' }
    }
  })
  const rows = []
  for (const threads of values.threads.split(',').map(Number)) {
    for (const name of positionals.length ? positionals : reference) {
      const row = await compare(name, threads, Number(values.seconds))
      console.log(rows.push(row) === 1 ? table([row]).trimEnd() : table([row]).trimEnd().split('\n').pop())
    }
  }
  if (values.write) {
    writeReport(values.write, `${machine()}\n${table(rows)}${method}\n`)
  }
  for (const row of rows.filter(row => !(row.difference <= tolerance))) {
    console.error(`bench: ${row.name}: the outputs differ by ${row.difference} of the largest`)
    process.exitCode = 1
  }
}

main().catch(error => {
  console.error(`bench: ${error.message}`)
  process.exit(1)
})
