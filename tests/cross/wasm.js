// node wasm.js program.wasm: runs it; what it puts goes to standard output.
const bytes = require('fs').readFileSync(process.argv[2]);
let memory;
const put = (at, length) => process.stdout.write(Buffer.from(memory.buffer, at, length).toString());
WebAssembly.instantiate(bytes, { host: { put } }).then(({ instance }) => {
  memory = instance.exports.memory;
  process.exitCode = instance.exports.run();
});
