import type { BoundExperts } from '../reference/index.ts'
import { type AnswerFigures, answerFigures } from './answer_figures.ts'
import { type ChatFlags, checkpointOf, type ModelAnswers, subjectsOf } from './eval_chats.ts'
import { readText } from './file_source.ts'
import { formatBytes, formatTable } from './format_text.ts'
import { openTaskVector } from './inputs.ts'
import type { LabelledExample, LabelledModel, LabelScore } from './labelled_model.ts'
import { parseLabelled } from './labels.ts'
import type { LogitsFile } from './logits_file.ts'
import { progressBar } from './progress.ts'
import type { Estimate } from './scores.ts'
import { fileBytes, writeUncompressed } from './uncompressed.ts'

/** The flags of `eval --labels`. */
export interface LabelFlags extends Omit<ChatFlags, 'chats'> {
  labels: string
}

/** A model that said what texts are. */
export interface ModelLabels extends ModelAnswers {
  /** Mean of the F1 of all classes that occur; of classifiers. */
  macroF1?: number
}

export interface LabelsReport {
  labels: string
  n: number
  /** Names of the classes; undefined where labels are texts. */
  classes?: readonly string[]
  models: ModelLabels[]
}

/**
 * Measures experts and uncompressed fine-tunings on labelled texts.
 * @throws {TritswapError} `input` for a file that cannot be read or a label that the model does not have
 */
export async function evaluateLabels(model: LabelledModel, flags: LabelFlags): Promise<LabelsReport> {
  const subjects = await subjectsOf({ ...flags, system: undefined })
  const labelled = parseLabelled(await readText(flags.labels), flags.labels).slice(0, flags.limit)
  const checkpoint = await checkpointOf(flags)
  const run = new LabelRun(
    model,
    labelled.map((one) => model.example(one)),
  )
  const bar = progressBar('evaluating')
  const steps = (subjects.length + 1) * labelled.length
  let done = 0
  try {
    const report: LabelsReport = {
      labels: flags.labels,
      n: labelled.length,
      classes: model.classes,
      models: [],
    }
    const onExample = () => bar.update(++done, steps)
    report.models.push({ name: 'base', kind: 'base', ...(await run.base(onExample)) })
    for (const { name, file, isExpert, uncompressed } of subjects) {
      let path = file
      if (!isExpert && !file.endsWith('.trit')) {
        path = model.scratch('uncompressed.trit')
        await writeUncompressed(await taskVectorOf(file, flags, checkpoint), path)
      }
      const expert = await model.admit(path)
      const bound = await model.bind([expert])
      const figures = await run.variant(bound, { name: file, isKept: !isExpert, uncompressed, onExample })
      const weights = [...bound.changed.values()].reduce((sum, { length }) => sum + length, 0)
      report.models.push({
        name,
        kind: isExpert ? 'expert' : 'uncompressed',
        file,
        bytes: await fileBytes(file),
        f16Bytes: 2 * weights,
        uncompressed,
        ...figures,
      })
    }
    return report
  } finally {
    bar.stop()
    await run.close()
  }
}

function taskVectorOf(
  file: string,
  { order }: LabelFlags,
  checkpoint: Awaited<ReturnType<typeof checkpointOf>>,
) {
  const isAdapter = order.some(({ flag, path }) => flag === 'adapter' && path === file)
  return openTaskVector(isAdapter ? { adapter: file } : { finetuned: file }, checkpoint)
}

/** Figures of variants of one model on the same examples. */
export class LabelRun {
  readonly #model: LabelledModel
  readonly #examples: readonly LabelledExample[]
  readonly #kept = new Map<string, { scores: readonly LabelScore[]; logits: LogitsFile }>()

  constructor(model: LabelledModel, examples: readonly LabelledExample[]) {
    this.#model = model
    this.#examples = examples
  }

  /** Of the base, which comes first. */
  async base(onExample?: () => void): Promise<AnswerFigures & Pick<ModelLabels, 'macroF1'>> {
    const scores = await this.#score(undefined, [], 'base', onExample)
    return { ...answerFigures(scores, {}), macroF1: macroF1(scores) }
  }

  /**
   * Of a variant.
   * @param options.name - under which later variants name it as what they are compared with, if it `isKept`
   */
  async variant(
    bound: BoundExperts,
    {
      name,
      isKept = false,
      uncompressed,
      onExample,
    }: { name?: string; isKept?: boolean; uncompressed?: string; onExample?: () => void } = {},
  ): Promise<AnswerFigures & Pick<ModelLabels, 'macroF1'>> {
    const base = this.#kept.get('base')!
    const reference = uncompressed === undefined ? undefined : this.#kept.get(uncompressed)
    const beside = reference === undefined ? [base.logits] : [base.logits, reference.logits]
    const scores = await this.#score(bound, beside, isKept ? name : undefined, onExample)
    const figures = answerFigures(scores, {
      toBase: { at: 0, scores: base.scores },
      toUncompressed: reference && { at: 1, scores: reference.scores },
    })
    return { ...figures, macroF1: macroF1(scores) }
  }

  async #score(
    bound: BoundExperts | undefined,
    beside: readonly LogitsFile[],
    keepAs?: string,
    onExample?: () => void,
  ): Promise<LabelScore[]> {
    const logits = keepAs === undefined ? undefined : await this.#model.logitsFile()
    const scores = await this.#model.score(this.#examples, bound, { beside, keep: logits, onExample })
    if (keepAs !== undefined) this.#kept.set(keepAs, { scores, logits: logits! })
    return scores
  }

  async close(): Promise<void> {
    for (const { logits } of this.#kept.values()) await logits.close()
  }
}

/** Undefined where labels are texts. */
export function macroF1(scores: readonly LabelScore[]): number | undefined {
  const classes = new Set(scores.map(({ wanted: [wanted] }) => wanted))
  if (scores.length === 0 || scores[0].predicted === undefined) return undefined
  const f1 = [...classes].map((one) => {
    const both = scores.filter(
      ({ predicted, wanted: [wanted] }) => predicted === one && wanted === one,
    ).length
    const said = scores.filter(({ predicted }) => predicted === one).length
    const right = scores.filter(({ wanted: [wanted] }) => wanted === one).length
    return (2 * both) / (said + right)
  })
  return f1.reduce((sum, value) => sum + value, 0) / f1.length
}

/** The report for people. */
export function labelsTable({ n, classes, models }: LabelsReport): string {
  const percent = ({ value, se }: Estimate) => `${(100 * value).toFixed(1)}±${(100 * se).toFixed(1)}%`
  const number = ({ value, se }: Estimate) => `${value.toFixed(3)}±${se.toFixed(3)}`
  const table = formatTable(
    [
      'model',
      'size',
      '× f16',
      classes === undefined ? 'exact' : 'accuracy',
      'macro F1',
      'to uncompressed',
      'bits',
      'agreement',
      'KL',
    ],
    models.map(({ name, kind, bytes, f16Bytes, exact, macroF1, bitsPerToken, toUncompressed }) => [
      name,
      bytes === undefined ? '' : formatBytes(bytes),
      kind !== 'expert' || bytes === undefined || f16Bytes === undefined
        ? ''
        : `${(f16Bytes / bytes).toFixed(0)}×`,
      percent(exact),
      macroF1 === undefined ? '' : macroF1.toFixed(3),
      toUncompressed === undefined ? '' : percent(toUncompressed.exact),
      number(bitsPerToken),
      toUncompressed === undefined ? '' : percent(toUncompressed.agreement),
      toUncompressed === undefined ? '' : number(toUncompressed.kl),
    ]),
  )
  return `${table}\n\n${n} labelled texts; ± is the standard error`
}
