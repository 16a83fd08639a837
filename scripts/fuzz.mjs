/**
 * `npm run fuzz -- --n 100000 [--seed S] [--from I]`: hostile files and sections for the reader and the decoder
 * (tests/format/fuzz.ts). Each failure is kept in tests/fixtures/fuzz, where every test run repeats it.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runnerImport } from 'vite'

const { values } = parseArgs({
  options: {
    n: { type: 'string', default: '10000' },
    seed: { type: 'string' },
    from: { type: 'string', default: '0' },
  },
})
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
const from = Number(values.from)
const end = from + Number(values.n)
if (![seed, from, end].every(Number.isSafeInteger)) {
  console.error('Cannot fuzz: --n, --seed and --from are whole numbers')
  process.exit(2)
}
console.log(`seed ${seed}, cases ${from} to ${end - 1}`)

const { module } = await runnerImport(new URL('../tests/format/fuzz.ts', import.meta.url).pathname, {
  configFile: false,
})
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
  const { extension, bytes } = module.packCase(fuzzed)
  const path = `tests/fixtures/fuzz/${seed}-${index}.${extension}`
  writeFileSync(new URL(`../${path}`, import.meta.url), bytes)
  console.error(`case ${index}, kept as ${path}:`, error)
}
process.exit(failures.length === 0 ? 0 : 1)
