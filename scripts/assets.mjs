/**
 * `npm run assets -- <path to demo-model> [--measure]`: makes everything under public/ that the page loads, with the
 * public command line. The same input gives the same bytes. With --measure it also measures the experts
 * (minutes) and writes scripts/assets.quality.json, from which the registry and the model card take their figures.
 *
 * @module
 */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BALANCED, EXPERTS, VARIANTS } from './assets.experts.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const publicDir = join(root, 'public')
/** An expert is bundled if it retains most of the gain at a 25th of the size. */
const MIN_GAIN_RETAINED = 0.88
const MIN_RATIO = 25
const LICENCE = 'Apache-2.0'

const qualityFile = join(root, 'scripts/assets.quality.json')

const args = process.argv.slice(2)
const measure = args.includes('--measure')
const demo = args.find((arg) => !arg.startsWith('--')) ?? ''
if (!existsSync(join(demo, 'base/model.safetensors'))) {
  process.stderr.write(
    `Cannot make the assets: expected the path of the demo model, found ${demo || 'none'}\n`,
  )
  process.exit(1)
}

const base = join(demo, 'base')
const experts = join(publicDir, 'experts')
// Every expert is made and measured; the bundled ones move to public/, the others stay in the table of the model card.
const all = mkdtempSync(join(tmpdir(), 'tritswap-assets-'))

tritswap('prepare', base, '--out', join(publicDir, 'models/demo'))
const manifest = JSON.parse(readFileSync(join(publicDir, 'models/demo/tritswap.json'), 'utf8'))

/** Rows of `tritswap eval` by id. */
let figures = new Map()

const entries = EXPERTS.map((expert) => compressed(expert, expert))
for (const variant of VARIANTS) {
  const { of, method, density } = variant
  const expert = EXPERTS.find(({ id }) => id === of)
  const how = `${method}, ${density * 100} %`
  const texts = {
    label: `${expert.label} (${how})`,
    description: `${expert.description} Another compression: ${how}.`,
  }
  entries.push(compressed({ ...expert, ...texts, id: `${of}-${method}-${density}` }, variant, of))
}

if (measure) {
  const registry = join(all, 'experts.json')
  const texts = entries.map((item) => ({
    ...item,
    text: relative(all, join(demo, 'texts', basename(item.text))),
  }))
  writeFileSync(registry, JSON.stringify(registryOf(texts)))
  tritswap('eval', '--registry', registry, '--demo-model', demo, '--json', qualityFile)
}
figures = new Map(JSON.parse(readFileSync(qualityFile, 'utf8')).experts.map((row) => [row.id, row]))
const isGood = ({ id, bytes, replaces }) =>
  figures.get(id).gainKept >= MIN_GAIN_RETAINED && replaces.f16Delta / bytes >= MIN_RATIO
const bundled = entries.filter(isGood)

for (const folder of ['experts', 'texts']) {
  rmSync(join(publicDir, folder), { recursive: true, force: true })
  mkdirSync(join(publicDir, folder), { recursive: true })
}
for (const { url } of bundled) copyFileSync(join(all, url), join(experts, url))
for (const text of new Set([...bundled.map((item) => basename(item.text)), 'story.txt'])) {
  // Not copyFile: the originals may be read-only.
  writeFileSync(join(publicDir, 'texts', text), readFileSync(join(demo, 'texts', text)))
}
writeFileSync(join(experts, 'experts.json'), `${JSON.stringify(registryOf(bundled), null, 2)}\n`)
writeFileSync(join(publicDir, 'models/demo/MODEL_CARD.md'), modelCard())
rmSync(all, { recursive: true })
for (const { id, bytes } of bundled) process.stdout.write(`${id}: ${bytes} bytes\n`)

/** Runs the built command line and returns what it prints. */
function tritswap(...words) {
  const { status, stdout } = spawnSync(process.execPath, [join(root, 'dist/cli.js'), ...words.map(String)], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    // What it writes is made again each time.
    env: { ...process.env, TRITSWAP_FORCE: '1' },
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (status !== 0) {
    process.stderr.write(`Cannot make the assets: tritswap ${words.join(' ')} failed\n`)
    process.exit(1)
  }
  return stdout
}

/** Makes one file and describes it as a registry does. */
function compressed({ id, label, description, prompt }, { method, density, alpha }, variantOf) {
  const url = `${id}.trit`
  const file = join(all, url)
  const texts = ['--label', label, '--description', description, '--prompt', prompt, '--licence', LICENCE]
  const from = variantOf ?? id
  const how =
    method === 'balanced'
      ? ['--finetuned', join(demo, 'finetuned', from), '--density', density, '--alpha', alpha, ...BALANCED]
      : ['--ternary', join(demo, 'distilled', `${from}-${density}.safetensors`)]
  const json = tritswap(
    'compress',
    '--base',
    base,
    '--base-name',
    'demo',
    ...how,
    ...texts,
    '--out',
    file,
    '--json',
  )
  const { file: made, totals } = JSON.parse(json)
  return {
    id,
    label,
    description,
    url,
    bytes: statSync(file).size,
    rootHash: made.rootHash,
    method: 'full',
    density,
    alpha,
    licence: LICENCE,
    prompt,
    text: `../texts/${from}.txt`,
    variantOf,
    replaces: { f16Delta: totals.weights * 2, f16Lora: f16Lora() },
  }
}

function registryOf(list) {
  return {
    version: 1,
    base: { name: 'demo', fingerprint: manifest.fingerprint },
    experts: list.map((item) => ({ ...item, quality: qualityOf(item.id) })),
  }
}

function qualityOf(id) {
  const row = figures.get(id)
  if (row === undefined) return undefined
  const { gainKept, agreement, kl, windows } = row
  return { gainKept: round(gainKept), agreement: round(agreement), kl: round(kl), windows }
}

/** Bytes in f16 of a LoRA of rank 8 on every linear of the base. */
function f16Lora() {
  const { tensors } = safetensorsHeader(join(demo, 'lora', 'holmes', 'adapter_model.safetensors'))
  return tensors.reduce((sum, { shape }) => sum + 2 * shape.reduce((a, b) => a * b, 1), 0)
}

function safetensorsHeader(path) {
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString())
  return {
    tensors: Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(([, tensor]) => tensor),
  }
}

function round(value) {
  return Number(value.toFixed(4))
}

function modelCard() {
  const percent = (value) => `${(100 * value).toFixed(1)} %`
  const rows = (list) =>
    list
      .map(({ id, bytes, density, alpha, replaces }) => {
        const { bpb, gainKept, agreement, kl } = figures.get(id)
        const smaller = (replaces.f16Delta / bytes).toFixed(1)
        const numbers = [bpb.base, bpb.finetuned, bpb.compressed].map((value) => value.toFixed(3))
        const close = [percent(gainKept), percent(agreement), kl.toFixed(3)]
        return `| ${[id, bytes, smaller, density, alpha ?? '', ...numbers, ...close].join(' | ')} |`
      })
      .join('\n')
  return readFileSync(join(root, 'scripts/assets.model_card.md'), 'utf8')
    .replace('{{weights}}', String(manifest.weights.bytes))
    .replace('{{fingerprint}}', manifest.fingerprint)
    .replace('{{bundled}}', rows(bundled))
    .replace('{{others}}', rows(entries.filter((item) => !isGood(item))))
}
