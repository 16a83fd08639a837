import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Table } from './row.ts'
import type { Store } from './store.ts'

/** Writes docs/RESULTS.md and its charts. */
export function writeDocument(
  root: string,
  tables: readonly Table[],
  stores: ReadonlyMap<string, Store>,
): void {
  const images = join(root, 'docs/images/results')
  mkdirSync(images, { recursive: true })
  const parts = tables.map(({ id, page }) => {
    const { title, text, charts } = page(stores.get(id)!, (other) => stores.get(other)!)
    for (const [name, svg] of Object.entries(charts)) writeFileSync(join(images, name), svg)
    const drawn = Object.keys(charts).map((name) => `![${title}](images/results/${name})`)
    return `## ${title}\n\n${[...drawn, text.trim()].join('\n\n')}\n`
  })
  writeFileSync(join(root, 'docs/RESULTS.md'), `${HEAD}\n${parts.join('\n')}`)
}

const HEAD = `# Results
`
