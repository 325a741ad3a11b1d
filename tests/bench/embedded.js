// node tests/bench/embedded.js [--write docs/embedded.md] [GRAPH...]: what networks take on a Cortex-M4.
// QEMU executes an instruction a nanosecond (-icount shift=0); the board's timer counts 40 of them.
const { execFileSync } = require('child_process');
const fs = require('fs');

const target = 'cortex-m4', folder = 'build/bench/cortex-m4', perTick = 40;
const flags = ['-std=gnu11', '-O2', '-w', '-mcpu=cortex-m4', '-mthumb', '-mfloat-abi=hard', '-mfpu=fpv4-sp-d16',
  '-I.', '-I' + folder, '-ffunction-sections', '-nostartfiles', '-T', 'tests/cross/cortex_m.ld',
  '-Wl,--gc-sections', 'tests/cross/cortex_m.c'];
const board = ['-M', 'mps2-an386', '-icount', 'shift=0', '-display', 'none', '-serial', 'none', '-monitor', 'none',
  '-chardev', 'stdio,id=out', '-semihosting-config', 'enable=on,chardev=out', '-kernel'];

const call = (command, args) => execFileSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26 });

function program(name, files) {
  const made = `${folder}/${name}`;
  call('arm-none-eabi-gcc', [...flags, ...files.map(f => `${folder}/${f}`), '-o', made, '-lm']);
  return made;
}

const run = made => call('qemu-system-arm', [...board, made]).trim().split('\n').map(Number);

function sizes(made) {
  const row = call('arm-none-eabi-size', [made]).trim().split('\n')[1].trim().split(/\s+/).map(Number);
  return { flash: row[0] + row[1], ram: row[1] + row[2] };
}

function measure(graph) {
  fs.mkdirSync(folder, { recursive: true });
  call('build/bench/embedded', [`graphs/${graph}.lua`, target, folder]);
  const kernels = JSON.parse(fs.readFileSync(`${folder}/kernels.json`, 'utf8'));
  fs.writeFileSync(`${folder}/empty.c`, 'int program(void) { return 0; }\n');
  const made = program('main', ['main.c', 'net.c']), { flash, ram } = sizes(made), empty = sizes(program('empty', ['empty.c']));
  const [stack, ticks] = run(made);
  run(program('profile', ['profile.c'])).forEach((t, k) => { kernels[k].instructions = t * perTick; });
  const macs = kernels.reduce((sum, k) => sum + k.macs, 0);
  const code = call('arm-none-eabi-size', ['-A', made]).match(/^\.text\s+(\d+)/m)[1];
  return { graph, flash: flash - empty.flash, code: Number(code), ram: ram - empty.ram + stack, stack,
    instructions: ticks * perTick, macs, kernels };
}

const n = x => String(x).replace(/\B(?=(\d{3})+$)/g, ',');
const per = (instructions, macs) => macs ? (instructions / macs).toFixed(2) : '-';

function tables(results) {
  let text = '| network | flash, bytes | of it code | RAM, bytes | of it stack | instructions | MACs | per MAC |\n' +
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n';
  for (const r of results)
    text += `| ${r.graph} | ${n(r.flash)} | ${n(r.code)} | ${n(r.ram)} | ${n(r.stack)} | ${n(r.instructions)} | ` +
      `${n(r.macs)} | ${per(r.instructions, r.macs)} |\n`;
  for (const r of results) {
    text += `\n${r.graph}:\n\n| kernel | output | instructions | MACs | per MAC |\n| --- | --- | ---: | ---: | ---: |\n`;
    for (const k of r.kernels)
      text += `| ${k.name} | ${k.output} | ${n(k.instructions)} | ${n(k.macs)} | ${per(k.instructions, k.macs)} |\n`;
  }
  return text;
}

let args = process.argv.slice(2), file = null;
if (args[0] === '--write') [, file, ...args] = args;
const graphs = args.length ? args : ['lenet5', 'resnet8', 'ds_cnn', 'mobilenet_025'];
const text = tables(graphs.map(measure));
console.log(text);
if (file) {
  const mark = '<!-- measured -->\n', old = fs.readFileSync(file, 'utf8');
  fs.writeFileSync(file, old.slice(0, old.indexOf(mark) + mark.length) + '\n' + text);
}
