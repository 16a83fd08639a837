/**
 * `npm run fuzz -- --n 100000 [--seed S] [--from I] [--of format|compress|source|onnx]`: hostile files and sections for the
 * reader and the decoder, what the compressor reads, what comes over the network, or graphs (tests/<of>/fuzz.ts). A failing
 * `.trit` file is kept in tests/fixtures/fuzz, where every test run repeats it; other failures are repeated by seed and index.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { createServer } from 'vite'

const { values } = parseArgs({
  options: {
    n: { type: 'string', default: '10000' },
    seed: { type: 'string' },
    from: { type: 'string', default: '0' },
    of: { type: 'string', default: 'format' },
  },
})
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
const from = Number(values.from)
const end = from + Number(values.n)
if (
  ![seed, from, end].every(Number.isSafeInteger) ||
  !['format', 'compress', 'source', 'onnx'].includes(values.of)
) {
  console.error(
    'Cannot fuzz: --n, --seed and --from are whole numbers, --of is format, compress, source or onnx',
  )
  process.exit(2)
}
console.log(`seed ${seed}, cases ${from} to ${end - 1}`)

// A server rather than a single import: what is tested imports some of its modules later.
const server = await createServer({
  configFile: false,
  appType: 'custom',
  logLevel: 'error',
  server: { middlewareMode: true, watch: null, ws: false },
  optimizeDeps: { noDiscovery: true },
})
const module = await server.ssrLoadModule(`/tests/${values.of}/fuzz.ts`)
const started = performance.now()
const { cases, outcomes, failures } = await module.fuzz(
  seed,
  (index) => {
    if (index % 10_000 === 0 && index > from)
      console.log(`${index - from} cases, ${Math.round((performance.now() - started) / 1000)} s`)
    return index < end
  },
  from,
)
console.log(`${cases} cases:`, outcomes, `${failures.length} failures`)
for (const { index, fuzzed, error } of failures) {
  if (fuzzed === undefined) {
    console.error(`--seed ${seed} --from ${index} --n 1:`, error)
    continue
  }
  const { extension, bytes } = module.packCase(fuzzed)
  const path = `tests/fixtures/fuzz/${seed}-${index}.${extension}`
  writeFileSync(new URL(`../${path}`, import.meta.url), bytes)
  console.error(`case ${index}, kept as ${path}:`, error)
}
await server.close()
process.exit(failures.length === 0 ? 0 : 1)
