import { existsSync } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { TritswapError } from '../errors.ts'
import { readHead, SKETCH_VALUES, sketchPositions, targetsOf } from '../format/index.ts'
import { type BaseIdentity, checkBase } from '../model/base_check.ts'
import { REPORT_WINDOWS } from '../model/score.ts'
import { parseRegistry } from '../source/registry.ts'
import { UsageError } from './command.ts'
import { deltaBytes, Evaluation, gainKept, type Variant } from './evaluation.ts'
import { openFile } from './file_source.ts'
import { formatTable } from './format_text.ts'
import { progressBar } from './progress.ts'

export const help = `
tritswap eval [--json out.json] [--experts austen,css]
tritswap eval --expert x.trit --finetuned <file|dir> --text t.txt [--json out.json]

Measures experts on text they were not trained on: bits per byte of the base, of the uncompressed fine-tuning and of
the compressed expert; the share of the fine-tuning's gain that is kept; how often compressed and uncompressed rank
the same token first (agreement) and KL(uncompressed || compressed) in bits per token. Texts are cut into windows of
256 tokens, of which the first 24 are for reporting: choose densities and multipliers on later ones.

  --base <dir>        written by tritswap prepare (default: public/models/demo); one that keeps its weights quantized
                      has experts beside them, and is compared with nothing else
  --registry <file>   the experts to measure (default: public/experts/experts.json)
  --experts <ids>     only these of them, separated by commas
  --demo-model <dir>  where the uncompressed fine-tunings are, as finetuned/<id>, for the bundled experts
                      (default: ../shared/demo-model if it is there; without it their columns stay empty)
  --expert <x.trit>   one that is in no registry, with --text and, to compare, --finetuned
  --finetuned <path>  its uncompressed fine-tuning: safetensors, a folder, or a .trit file with dense tensors
  --text <file>       a text of its domain
  --windows <n>       how many windows (default 24)
  --from <n>          the first one (default 0)
  --json <file>       also write the figures there
`

const options = {
  base: { type: 'string', default: 'public/models/demo' },
  registry: { type: 'string', default: 'public/experts/experts.json' },
  experts: { type: 'string' },
  'demo-model': { type: 'string' },
  expert: { type: 'string' },
  finetuned: { type: 'string' },
  text: { type: 'string' },
  windows: { type: 'string', default: String(REPORT_WINDOWS) },
  from: { type: 'string', default: '0' },
  json: { type: 'string' },
} as const

/** Figures of one expert; what needs the uncompressed fine-tuning is null where that is not at hand. */
export interface ExpertFigures {
  id: string
  bytes: number
  ratioToF16Delta: number | null
  bpb: { base: number; finetuned: number | null; compressed: number }
  gainKept: number | null
  agreement: number | null
  kl: number | null
  windows: number
}

interface Subject {
  id: string
  path: string
  text: string
  finetuned?: string
  /** Where the fine-tuning is not at hand, from the registry. */
  f16Delta?: number
}

export async function run(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options })
  const range = {
    from: wholeNumber(values.from, '--from', 0),
    count: wholeNumber(values.windows, '--windows', 1),
  }
  const subjects = await subjectsOf(values)
  if (subjects.some(({ finetuned }) => finetuned === undefined)) {
    process.stderr.write(
      'The uncompressed fine-tunings are not here: what compares with them stays empty; give --demo-model <path>\n',
    )
  }
  const evaluation = await Evaluation.open(values.base)
  const experts: ExpertFigures[] = []
  const bar = progressBar('evaluating')
  try {
    const identity = identityOf(evaluation, values.base)
    const steps = subjects.length * range.count
    let done = 0
    // Compressions of one fine-tuning share its passes and the base's.
    for (const group of groupedBy(subjects, ({ text, finetuned }) => `${text}\n${finetuned}`)) {
      const onWindow = (windows: number) => bar.update(done + windows * group.length, steps)
      experts.push(...(await measure(group, evaluation, identity, range, onWindow)))
      done += group.length * range.count
    }
    experts.sort((a, b) => order(subjects, a.id) - order(subjects, b.id))
  } finally {
    bar.stop()
    await evaluation.close()
  }
  process.stdout.write(`${tableOf(experts)}\n`)
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify({ experts }, null, 2)}\n`)
  return 0
}

/** Experts that were made from one fine-tuning, on its text. */
async function measure(
  subjects: readonly Subject[],
  evaluation: Evaluation,
  identity: BaseIdentity,
  range: { from: number; count: number },
  onWindow: (done: number) => void,
): Promise<ExpertFigures[]> {
  const [{ text, finetuned }] = subjects
  const variants: Variant[] = []
  for (const { path } of subjects) {
    const file = await openFile(path)
    try {
      checkBase((await readHead(file)).table, path, identity)
    } finally {
      await file.close()
    }
    variants.push(await evaluation.expert(path))
  }
  const tuned =
    finetuned === undefined || evaluation.keepsQuantized ? undefined : await evaluation.finetuned(finetuned)
  const windows = evaluation.text(await readText(text))
  const result = await evaluation.score(windows, range, { finetuned: tuned, variants, onWindow })
  const figures: ExpertFigures[] = []
  for (const [i, { id, path, f16Delta }] of subjects.entries()) {
    const { size: bytes } = await stat(path)
    const { bpb, agreement, kl } = result.variants[i]
    const delta = tuned === undefined ? f16Delta : deltaBytes(tuned)
    figures.push({
      id,
      bytes,
      ratioToF16Delta: delta === undefined ? null : delta / bytes,
      bpb: { base: result.base.bpb, finetuned: result.finetuned?.bpb ?? null, compressed: bpb },
      gainKept: (result.finetuned && gainKept(result.base.bpb, result.finetuned.bpb, bpb)) ?? null,
      agreement: agreement ?? null,
      kl: kl ?? null,
      windows: result.windows,
    })
  }
  return figures
}

function groupedBy<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>()
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item])
  return [...groups.values()]
}

function order(subjects: readonly Subject[], id: string): number {
  return subjects.findIndex((subject) => subject.id === id)
}

type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values']

async function subjectsOf(values: Values): Promise<Subject[]> {
  if (values.expert !== undefined) {
    if (values.text === undefined)
      throw new UsageError('Cannot evaluate --expert: expected --text <file> with it')
    return [
      {
        id: basename(values.expert, '.trit'),
        path: values.expert,
        text: values.text,
        finetuned: values.finetuned,
      },
    ]
  }
  if (values.text !== undefined || values.finetuned !== undefined) {
    throw new UsageError('Cannot evaluate: --text and --finetuned belong to --expert <x.trit>')
  }
  const registry = parseRegistry(await readText(values.registry), values.registry)
  const wanted = values.experts?.split(',')
  for (const id of wanted ?? []) {
    if (!registry.experts.some((entry) => entry.id === id)) {
      throw new UsageError(
        `Cannot evaluate ${id}: expected one of ${registry.experts.map((entry) => entry.id).join(', ')}`,
      )
    }
  }
  const folder = dirname(values.registry)
  const demo = values['demo-model'] ?? ['../shared/demo-model'].find((path) => existsSync(path))
  return registry.experts
    .filter(({ id }) => wanted === undefined || wanted.includes(id))
    .map((entry) => {
      if (entry.text === undefined) {
        throw new TritswapError('input', `Cannot evaluate ${entry.id}: its registry entry names no text`, {
          fields: { id: entry.id },
        })
      }
      return {
        id: entry.id,
        path: join(folder, entry.url),
        text: join(folder, entry.text),
        finetuned: demo && join(demo, 'finetuned', entry.variantOf ?? entry.id),
        f16Delta: entry.replaces?.f16Delta,
      }
    })
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new TritswapError('input', `Cannot open ${path}: there is no such file`, {
      fields: { path },
      cause,
    })
  }
}

/** What an expert is checked against before it is measured: the same as in the page. */
function identityOf({ manifest, reference }: Evaluation, name: string): BaseIdentity {
  const { tensors } = reference.head.table
  return {
    name,
    fingerprint: manifest.fingerprint,
    dtype: tensors.some(({ codec }) => codec === 'blocks') ? 'q4' : 'f32',
    shapes: new Map(tensors.map((tensor) => [tensor.name, tensor.shape])),
    sketches: new Map(
      targetsOf(tensors).map((tensor) => {
        const values = reference.tensors.get(tensor)!
        return [
          tensor,
          sketchPositions(tensor, values.length)
            .map((position) => values[position])
            .slice(0, SKETCH_VALUES),
        ]
      }),
    ),
  }
}

function tableOf(experts: readonly ExpertFigures[]): string {
  const number = (value: number | null, digits: number) => (value === null ? '' : value.toFixed(digits))
  const share = (value: number | null) => (value === null ? '' : `${(100 * value).toFixed(1)}%`)
  return formatTable(
    ['expert', 'bytes', 'smaller', 'base', 'fine-tuned', 'compressed', 'gain kept', 'agreement', 'KL'],
    experts.map(({ id, bytes, ratioToF16Delta, bpb, ...rest }) => [
      id,
      bytes,
      ratioToF16Delta === null ? '' : `${ratioToF16Delta.toFixed(1)}×`,
      number(bpb.base, 3),
      number(bpb.finetuned, 3),
      number(bpb.compressed, 3),
      share(rest.gainKept),
      share(rest.agreement),
      number(rest.kl, 3),
    ]),
  )
}

function wholeNumber(value: string, option: string, least: number): number {
  const number = Number(value)
  if (!Number.isInteger(number) || number < least) {
    throw new UsageError(
      `Cannot evaluate: expected ${option} to be a whole number from ${least}, found ${value}`,
    )
  }
  return number
}
