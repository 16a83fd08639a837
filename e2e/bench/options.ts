import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { parseRegistry } from '../../src/source/registry.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const DEMO_MODEL = join(ROOT, 'public/models/demo')
const DEMO_EXPERTS = join(ROOT, 'public/experts')
const DEMO_CHECKPOINTS = join(ROOT, '../shared/demo-model')

export const USAGE = `npm run bench -- [options]
  --only <text or glob>   cases or groups whose name has the text or matches the glob; may be given again
  --runs <n>              samples of each case (12; slow cases take fewer, quick ones more)
  --model <folder>        another base: what "tritswap prepare" wrote, or an ONNX folder; needs --experts
  --experts <folder|files>  a folder with experts.json, or .trit files with commas between them; two full fine-tunings or more
  --demo-model <folder>   fine-tuned checkpoints of the base in finetuned/<expert>/model.safetensors; without them the
                          alternatives get models and deltas of the same size, made from the experts
  --adapter <which>       auto (a GPU if there is one), or software
  --max-weights <n>       largest synthetic base (2^26 on a software adapter, 2^28 on a GPU)
  --new-tokens <n>        tokens of one sample of tokens/s (6)
  --json <file>           the figures
  --html <file>           the report with charts (.cache/bench/report.html)
  --doc                   writes docs/BENCHMARKS.md and docs/benchmarks.json
npm run bench -- compare a.json b.json`

export interface BenchOptions {
  model: string
  /** Files of experts, with what a registry says of them. */
  experts: string[]
  /** Folder of fine-tuned checkpoints, if there is one. */
  checkpoints: string | undefined
  only: string[]
  runs: number
  adapter: 'auto' | 'software'
  maxWeights: number | undefined
  newTokens: number
  json: string | undefined
  html: string | undefined
  doc: boolean
}

/** @throws {Error} that says which option is wrong */
export function benchOptions(argv: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', multiple: true },
      runs: { type: 'string', default: '12' },
      model: { type: 'string' },
      experts: { type: 'string' },
      'demo-model': { type: 'string' },
      adapter: { type: 'string', default: 'auto' },
      'max-weights': { type: 'string' },
      'new-tokens': { type: 'string', default: '6' },
      json: { type: 'string' },
      html: { type: 'string' },
      doc: { type: 'boolean', default: false },
    },
  })
  if (values.model !== undefined && values.experts === undefined)
    throw new Error('--model needs --experts: those of the demo base fit no other one')
  const { adapter } = values
  if (adapter !== 'auto' && adapter !== 'software')
    throw new Error(`--adapter: expected auto or software, found ${adapter}`)
  const checkpoints = values['demo-model'] ?? (values.model === undefined ? DEMO_CHECKPOINTS : undefined)
  if (values['demo-model'] !== undefined && !existsSync(values['demo-model']))
    throw new Error(`--demo-model: there is no ${values['demo-model']}`)
  return {
    model: resolve(values.model ?? DEMO_MODEL),
    experts: expertFiles(values.experts ?? DEMO_EXPERTS),
    checkpoints: checkpoints !== undefined && existsSync(checkpoints) ? resolve(checkpoints) : undefined,
    only: values.only ?? [],
    runs: positive('runs', values.runs),
    adapter,
    maxWeights:
      values['max-weights'] === undefined ? undefined : positive('max-weights', values['max-weights']),
    newTokens: positive('new-tokens', values['new-tokens']),
    json: values.json,
    html: values.html,
    doc: values.doc,
  }
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`--${name}: expected a whole number from 1, found ${text}`)
  return value
}

/** Paths of `.trit` files: those that a registry lists, or those named. */
function expertFiles(given: string): string[] {
  const registry = given.endsWith('.json') ? given : join(given, 'experts.json')
  const files = existsSync(registry)
    ? parseRegistry(readFileSync(registry, 'utf8'), registry).experts.map(({ url }) =>
        join(dirname(registry), url),
      )
    : given.split(',')
  const missing = files.find((file) => !existsSync(file))
  if (missing !== undefined) throw new Error(`--experts: there is no ${missing}`)
  if (files.length < 2) throw new Error('--experts: expected two or more, to switch between')
  return files.map((file) => resolve(file))
}

/** Whether a case is asked for: by a part of its name or of its group's, or by a glob over one of them. */
export function chosen(only: readonly string[], group: string, name: string): boolean {
  if (only.length === 0) return true
  return only.some((pattern) => {
    if (!/[*?]/.test(pattern)) return name.includes(pattern) || group === pattern
    const glob = new RegExp(
      `^${pattern
        .replace(/[.+^${}()|[\]\\]/g, '\\$&')
        .replaceAll('*', '.*')
        .replaceAll('?', '.')}$`,
    )
    return glob.test(name) || glob.test(group)
  })
}

/** The name of an expert, as its file says it. */
export const expertName = (path: string) => basename(path).replace(/\.trit$/, '')
