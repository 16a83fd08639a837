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

const HEAD = `# What the paper says, on our models

ComPEFT ([arXiv 2311.13171](https://arxiv.org/abs/2311.13171)) keeps of a fine-tuning the signs of its largest entries. Here is what that is worth on the models of this repository:
each table with a chart, a standard error behind every ±, and what of the paper it confirms or contradicts.

\`npm run results\` writes this page. It measures on onnxruntime's wasm backend in Node, keeps what it has measured (\`results/data\`), and goes on where it was cut.
\`npm run results -- --quick\` measures anew what needs nothing but the repository: **(h)**, **(i)**, the three sizes of **(d)**, **(j)** and **(f)**, and the bits of **(g)**: five minutes on two cores. The rest needs the
demo's uncompressed fine-tunings (\`--demo-model\`, 86 MB, not in the repository). What torch has made, by \`authoring/results\`, is in \`results/models\` with its hashes.

± is one standard error: of texts over windows of 256 tokens, each one draw; of exact answers that of a binomial; of differences that of pairs; over draws of examples where there are some. All models were
trained once, with one seed: what another seed would give is not in the ±.

Not run: three sizes of one recipe above 0.3 M weights (d); QLoRA on a model larger than the classifier (i); routing of the clinical skills by anything but text (j).
`
