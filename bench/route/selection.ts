/**
 * `node scripts/run_ts.mjs bench/route/selection.ts <skills/data>`: how often the right expert is chosen among skills that
 * routing was made with, those that it was not, and both; and how often none is where none is right.
 *
 * @module
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { centroidTable } from '../../src/route/centroid_table.ts'
import { centroidsOf } from '../../src/route/centroids.ts'
import { routeIn } from '../../src/route/route.ts'
import { type Requests, unseenSkills } from './unseen.ts'

const [data] = process.argv.slice(2)
if (data === undefined) throw new Error('expected <skills/data>')

const read = (path: string) =>
  readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { user: string }).user)
const known = new Map(
  readdirSync(data).map((skill): [string, Requests] => {
    const of = (set: keyof Requests) => read(join(data, skill, `${set}.jsonl`))
    return [skill, { train: of('train'), valid: of('valid'), test: of('test') }]
  }),
)
const unseen = unseenSkills()
const all = new Map([...known, ...unseen])
const centroids = new Map([...all].map(([id, { train }]) => [id, centroidsOf(train)]))

for (const skills of [known, unseen, all]) {
  const ids = [...skills.keys()]
  const names = {
    table: centroidTable(ids.map((id) => centroids.get(id)!)),
    idOf: (owner: number) => ids[owner]!,
    labelOf: () => undefined,
  }
  const chosen = (text: string) => routeIn(text, names).chosen?.id
  console.log(`\namong ${ids.length}`)
  for (const set of ['valid', 'test'] as const) {
    const rights = ids
      .filter((id) => skills.get(id)![set].length > 0)
      .map((id) => ({ id, hits: skills.get(id)![set].map((text) => chosen(text) === id) }))
    const foreign = ['foreign', 'near'].map((kind) => ({
      id: `${kind}, none`,
      hits: read(`authoring/route/${kind}.${set}.jsonl`).map((text) => chosen(text) === undefined),
    }))
    const mean = rights.reduce((sum, { hits }) => sum + share(hits), 0) / rights.length
    console.log(`${set}: mean of skills ${(100 * mean).toFixed(1)} %`)
    for (const { id, hits } of [...rights, ...foreign])
      console.log(`  ${id.padEnd(14)} ${String(hits.length).padStart(4)}  ${percent(hits)}`)
  }
}

function share(hits: readonly boolean[]): number {
  return hits.filter(Boolean).length / hits.length
}

function percent(hits: readonly boolean[]): string {
  const p = share(hits)
  return `${(100 * p).toFixed(1)} ± ${(100 * Math.sqrt((p * (1 - p)) / hits.length)).toFixed(1)} %`
}
