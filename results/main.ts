/**
 * `npm run results [-- --quick] [--only a,b] [--seconds n] [--demo-model folder] [--write]`: measures what the
 * tables of docs/RESULTS.md say, on onnxruntime's wasm backend, and writes that document.
 *
 * Rows that were measured before are kept (results/data), so that a run that was cut goes on where it was. `--quick`
 * measures those rows anew that need nothing but the repository. `--write` measures nothing.
 *
 * @module
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { DEMO_SOURCE, OpenBenches } from './context.ts'
import { writeDocument } from './document.ts'
import { Store } from './store.ts'
import { TABLES } from './tables/index.ts'

const ROOT = join(import.meta.dirname, '..')
const DATA = join(import.meta.dirname, 'data')

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean' },
    write: { type: 'boolean' },
    only: { type: 'string' },
    seconds: { type: 'string' },
    'demo-model': { type: 'string', default: DEMO_SOURCE },
  },
})

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

const until = Date.now() + Number(values.seconds ?? 1e6) * 1000
const benches = new OpenBenches(ROOT, values['demo-model'])
const only = values.only?.split(',')
let missing = 0
let isCut = false
const stores = new Map(TABLES.map(({ id }) => [id, new Store(DATA, id)]))
for (const { id, rows } of values.write ? [] : TABLES) {
  if (only !== undefined && !only.includes(id)) continue
  const kept = stores.get(id)!
  for (const row of rows(benches, (other) => stores.get(other)!)) {
    const isWanted = values.quick ? row.isQuick === true : kept.get(row.key) === undefined
    if (!isWanted) continue
    if (!row.isQuick && !existsSync(values['demo-model'])) {
      missing++
      continue
    }
    if (Date.now() > until) {
      isCut = true
      break
    }
    const start = performance.now()
    const before = cpuSeconds()
    kept.set(row.key, await row.measure(kept))
    const [took, cpu] = [(performance.now() - start) / 1000, cpuSeconds() - before]
    process.stdout.write(`${id}: ${row.key} (${took.toFixed(1)} s, ${cpu.toFixed(1)} of CPU)\n`)
  }
}
await benches.close()
if (missing > 0)
  process.stdout.write(
    `${missing} rows need the demo's uncompressed fine-tunings: name their folder with --demo-model\n`,
  )
process.stdout.write(`${cpuSeconds().toFixed(0)} s of CPU in all\n`)
if (isCut) process.stdout.write('The time is over: run it again to go on\n')
writeDocument(ROOT, TABLES, stores)
