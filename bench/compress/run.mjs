/**
 * `npm run bench:compress`: seconds to compress a fine-tuning of 100 M f16 weights, beside `gzip -1` of the same
 * bytes, and kept entries per second of the CPU decoder. JSON on stdout.
 *
 *   --weights <n>   default 100e6     --runs <n>   default 3, the best counts     --json <file>   also write it there
 *
 * @module
 */
import { spawn } from 'node:child_process'
import { createWriteStream, readFileSync } from 'node:fs'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { build } from 'vite'

const { values } = parseArgs({
  options: {
    weights: { type: 'string', default: '100e6' },
    runs: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
})
const weights = Number(values.weights)
const runs = Number(values.runs)

const folder = await mkdtemp(join(tmpdir(), 'tritswap-bench-'))
// Inside the repository, so that what stays external is found.
const outDir = await mkdtemp(join('node_modules', '.tritswap-bench-'))
try {
  await build({ configFile: 'vite.cli.config.ts', logLevel: 'error', build: { outDir } })
  await build({
    configFile: false,
    logLevel: 'error',
    publicDir: false,
    build: { ssr: 'scripts/bench_decoder.ts', outDir, emptyOutDir: false },
  })
  const base = join(folder, 'base.safetensors')
  const finetuned = join(folder, 'finetuned.safetensors')
  await writeCheckpoints(base, finetuned, weights)

  const compress = {}
  for (const threads of new Set([1, availableParallelism()])) {
    for (const [name, flags] of [
      ['default', []],
      ['published', ['--rule', 'published']],
    ]) {
      compress[`${name}, ${threads} threads`] = await best(() =>
        timed(process.execPath, [
          join(outDir, 'cli.js'),
          'compress',
          ...['--base', base, '--finetuned', finetuned, '--density', '0.05', ...flags],
          ...['--threads', String(threads), '--out', join(folder, 'x.trit')],
        ]),
      )
    }
  }
  const gzip = await best(() => timed('gzip', ['-1', '-c', finetuned], join(folder, 'x.gz')))
  const { benchDecoder } = await import(pathToFileURL(join(outDir, 'bench_decoder.js')).href)
  const result = {
    machine: {
      cpu: cpus()[0].model,
      cores: availableParallelism(),
      node: process.version,
      load: loadavg()[0],
    },
    weights,
    bytes: (await stat(finetuned)).size,
    compress,
    compressedBytes: (await stat(join(folder, 'x.trit'))).size,
    gzip,
    gzipBytes: (await stat(join(folder, 'x.gz'))).size,
    decoder: benchDecoder(),
  }
  const text = `${JSON.stringify(result, null, 1)}\n`
  process.stdout.write(text)
  if (values.json !== undefined) await writeFile(values.json, text)
} finally {
  await rm(folder, { recursive: true })
  await rm(outDir, { recursive: true })
}

/** The fastest of all runs: other load only ever slows it down. */
async function best(run) {
  let fastest
  for (let i = 0; i < runs; i++) {
    const result = await run()
    if (fastest === undefined || result.seconds < fastest.seconds) fastest = result
  }
  return fastest
}

/** Seconds and peak memory of a program of its own; peak memory is what Linux tells while it runs. */
async function timed(command, argv, stdout) {
  const start = performance.now()
  const child = spawn(command, argv, {
    stdio: ['ignore', stdout === undefined ? 'ignore' : 'pipe', 'inherit'],
  })
  if (stdout !== undefined) child.stdout.pipe(createWriteStream(stdout))
  let peakMB = 0
  const watch = setInterval(() => {
    peakMB = Math.max(peakMB, peakOf(child.pid))
  }, 50)
  const code = await new Promise((resolve, reject) => child.on('close', resolve).on('error', reject))
  clearInterval(watch)
  if (code !== 0) throw new Error(`${command} ${argv.join(' ')} exited with ${code}`)
  return { seconds: (performance.now() - start) / 1000, peakMB }
}

function peakOf(pid) {
  try {
    return Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024)
  } catch {
    // It has ended, or this is not Linux.
    return 0
  }
}

/** Two f16 checkpoints of matrices of 4 M weights; their difference has a heavy tail. */
async function writeCheckpoints(base, finetuned, count) {
  const side = 2048
  const shapes = []
  for (let rest = count; rest > 0; rest -= side * side) {
    shapes.push(rest >= side * side ? [side, side] : [Math.ceil(rest / side), side])
  }
  let end = 0
  const header = Object.fromEntries(
    shapes.map((shape, i) => {
      const start = end
      end += 2 * shape[0] * shape[1]
      return [`model.layers.${i}.weight`, { dtype: 'F16', shape, data_offsets: [start, end] }]
    }),
  )
  const json = Buffer.from(JSON.stringify(header))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(json.length))
  const files = [base, finetuned].map((path) => createWriteStream(path))
  for (const file of files) {
    file.write(prefix)
    file.write(json)
  }
  let state = 1
  const random = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state
  }
  for (const [rows, cols] of shapes) {
    const weights = [new Uint16Array(rows * cols), new Uint16Array(rows * cols)]
    for (let i = 0; i < rows * cols; i++) {
      // Sign, exponents 2⁻⁹ to 2⁻⁶ and a mantissa: a weight. A few units in the last places: what training did.
      const bits = random()
      const half = (bits & 0x8000) | (0x1800 + (bits & 0x0fff))
      const step = random()
      weights[0][i] = half
      weights[1][i] =
        half + (((step & 31) * ((step >>> 5) & 31) * ((step >>> 10) & 31)) >>> 8) * (step < 0 ? 1 : -1)
    }
    for (const [i, file] of files.entries()) {
      if (!file.write(new Uint8Array(weights[i].buffer)))
        await new Promise((resolve) => file.once('drain', resolve))
    }
  }
  await Promise.all(files.map((file) => promisify(file.end.bind(file))()))
}
