/**
 * `npm run rules -- <demo-model> [--windows n] [--experts a,b]`: what each way of choosing entries and scales retains of
 * a fine-tuning, measured by `tritswap sweep --eval` on the demo experts, written to docs/RULES.md. Alphas of the
 * published rule are chosen on windows from 24 on; everything is reported on windows from 0 on.
 *
 * @module
 */
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { root } from './setup.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    windows: { type: 'string', default: '24' },
    experts: { type: 'string', default: 'python,css,bard,scripture,austen,holmes' },
  },
})
const [model] = positionals
if (model === undefined) {
  process.stderr.write('Cannot measure the rules: expected the path of the demo model\n')
  process.exit(2)
}
const experts = values.experts.split(',')
const windows = Number(values.windows)

/** Rows of the table: flags, and for each density the alpha or the alphas to choose from. */
const CALIBRATED = [5, 6, 8, 10, 12, 16]
const ROWS = [
  {
    name: 'published, threshold by tensor, best alpha',
    flags: ['--rule', 'published', '--threshold', 'tensor'],
    alphas: { 0.02: CALIBRATED, 0.05: CALIBRATED },
  },
  {
    name: 'published, one global threshold, best alpha',
    flags: ['--rule', 'published'],
    alphas: { 0.05: CALIBRATED },
  },
  {
    name: '**balanced, unbiased scale (the default)**',
    flags: [],
    alphas: { 0.02: [1], 0.05: [1], 0.1: [1], 0.2: [1] },
  },
  { name: 'the default times 0.75 at 2 %, 0.9 at 5 %', flags: [], alphas: { 0.02: [0.75], 0.05: [0.9] } },
]
const DENSITIES = [0.02, 0.05, 0.1, 0.2]

/** @param {string} expert @param {string[]} flags @param {number} density @param {number[]} alphas @param {string[]} range */
async function sweep(expert, flags, density, alphas, range) {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [
      join(root, 'dist/cli.js'),
      'sweep',
      ...['--base', join(model, 'base'), '--finetuned', join(model, 'finetuned', expert)],
      ...['--eval', join(model, 'texts', `${expert}.txt`), '--densities', String(density)],
      ...[
        '--eval-base',
        join(root, 'public/models/demo'),
        '--alphas',
        alphas.join(','),
        ...range,
        ...flags,
        '--json',
      ],
    ],
    { maxBuffer: 1 << 26 },
  )
  return JSON.parse(stdout).best
}

const mean = (numbers) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length
const lines = []
for (const { name, flags, alphas } of ROWS) {
  const cells = []
  for (const density of DENSITIES) {
    const candidates = alphas[density]
    if (!candidates) {
      cells.push('')
      continue
    }
    const points = []
    for (const expert of experts) {
      const alpha =
        candidates.length === 1
          ? candidates[0]
          : (await sweep(expert, flags, density, candidates, ['--from', '24', '--windows', '6'])).alpha
      const point = await sweep(
        expert,
        flags,
        density,
        [alpha],
        ['--from', '0', '--windows', String(windows)],
      )
      console.log(`${name}, ${density}, ${expert}: alpha ${alpha}, ${JSON.stringify(point.eval)}`)
      points.push(point.eval)
    }
    const gain = mean(points.map(({ gainKept }) => gainKept))
    const agreement = mean(points.map((point) => point.agreement))
    const kl = mean(points.map((point) => point.kl))
    cells.push(`${(gain * 100).toFixed(0)} / ${(agreement * 100).toFixed(1)} / ${kl.toFixed(3)}`)
  }
  lines.push(`| ${name} | ${cells.join(' | ')} |`)
}

writeFileSync(
  join(root, 'docs/RULES.md'),
  `# Which entries to keep, and what they are worth

Written by \`npm run rules\`: ${experts.length} fine-tunings of the demo base (${experts.join(', ')}), ${windows} windows of 256 tokens
of each held-out text. Cells: mean share of the gain kept (%) / mean top-1 agreement with the uncompressed fine-tuning
(%) / mean KL(fine-tuned ‖ compressed) in bits per token. Alphas to choose from (${CALIBRATED.join(', ')}) are chosen by
KL on six other windows.

| rule | ${DENSITIES.map((density) => `k = ${density * 100} %`).join(' | ')} |
| --- | ${DENSITIES.map(() => '---').join(' | ')} |
${lines.join('\n')}

- **published**: ComPEFT as its paper and code have it: top-k of |tau|, every kept entry worth alpha·std(tau).
- **balanced**: top-k of |tau_ij| / sqrt(rms_row_i · rms_col_j), so that no row or column is left out because its
  neighbours are louder; **unbiased** scale ‖tau‖² / Σ_kept |tau|, for which ⟨S, tau⟩ = ‖tau‖². It needs no text and no
  search, which is why it is the default of \`tritswap compress\`.
- A text of the domain buys a little more at low density: \`tritswap sweep --eval\` finds the multiplier.
- Vectors (norms, biases) are ternary like everything else, unless nothing but vectors moved; then they are dense f16.
`,
)
