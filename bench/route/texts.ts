/**
 * `node scripts/run_ts.mjs bench/route/texts.ts <skills/data> <out.json>`: the requests by which routing is measured, and
 * where the product's n-grams put them, for `authoring/route/embeddings.py`. Of each skill, `train` has at most 64 and the
 * others 40; foreign and general requests are all there.
 *
 * @module
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { positionOf } from '../../src/route/centroids.ts'
import { GENERAL_REQUESTS } from '../../src/route/general.ts'
import { type Requests, unseenSkills } from './unseen.ts'

const COUNTS = { train: 64, valid: 40, test: 40 }
/** Words of a passage that a pen would go on from, as `tritswap registry build` cuts them. */
const PASSAGE_WORDS = 40

const [data, out] = process.argv.slice(2)
if (data === undefined || out === undefined) throw new Error('expected <skills/data> <out.json>')

const kinds: Record<string, Partial<Requests>> = {
  general: { train: [...GENERAL_REQUESTS] },
  foreign: {
    valid: [
      ...requests('authoring/route/foreign.valid.jsonl'),
      ...requests('authoring/route/near.valid.jsonl'),
    ],
    test: [...requests('authoring/route/foreign.test.jsonl'), ...requests('authoring/route/near.test.jsonl')],
  },
}
for (const skill of readdirSync(data)) {
  const of = (set: keyof Requests) => requests(join(data, skill, `${set}.jsonl`))
  kinds[`skill ${skill}`] = some({ train: of('train'), valid: of('valid'), test: of('test') })
}
for (const [skill, all] of unseenSkills()) kinds[`unseen ${skill}`] = some(all)
for (const file of readdirSync('public/texts')) {
  const all = passages(readFileSync(join('public/texts', file), 'utf8'))
  const third = Math.floor(all.length / 3)
  const [train, valid, test] = [all.slice(0, third), all.slice(third, 2 * third), all.slice(2 * third)]
  kinds[`pen ${file.replace(/\.txt$/, '')}`] = some({ train, valid, test })
}
const rows = Object.entries(kinds).flatMap(([kind, sets]) =>
  Object.entries(sets).flatMap(([set, texts]) =>
    texts.map((text) => ({ kind, set, text, position: Array.from(positionOf(text), rounded) })),
  ),
)
writeFileSync(out, JSON.stringify(rows))
console.log(`${rows.length} texts of ${Object.keys(kinds).length} kinds`)

function requests(path: string): string[] {
  return readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { user: string }).user)
}

function some(all: Requests): Requests {
  const spread = (texts: readonly string[], count: number) => {
    const step = Math.max(1, texts.length / count)
    return Array.from({ length: Math.min(count, texts.length) }, (_, i) => texts[Math.floor(i * step)]!)
  }
  return {
    train: spread(all.train, COUNTS.train),
    valid: spread(all.valid, COUNTS.valid),
    test: spread(all.test, COUNTS.test),
  }
}

function passages(text: string): string[] {
  const words = text.match(/\S+\s*/g) ?? []
  const count = Math.floor(words.length / PASSAGE_WORDS)
  return Array.from({ length: count }, (_, i) =>
    words
      .slice(i * PASSAGE_WORDS, (i + 1) * PASSAGE_WORDS)
      .join('')
      .trimEnd(),
  )
}

function rounded(value: number): number {
  return Math.round(value * 1e5) / 1e5
}
