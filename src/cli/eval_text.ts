import type { Subject } from './eval_subjects.ts'
import type { Evaluation } from './evaluation.ts'
import { readText } from './file_source.ts'
import { formatTable } from './format_text.ts'
import { groupedBy } from './grouped_by.ts'
import type { LogitsFile } from './logits_file.ts'
import { staysQuantized } from './prepared_base.ts'
import { progressBar } from './progress.ts'
import { closenessTo, type ExampleScore, gainRetained } from './scores.ts'
import { textWindows, type WindowRange } from './text_windows.ts'
import { fileBytes, uncompressedVariant } from './uncompressed.ts'
import { expertVariant } from './variants.ts'

/** Figures of one expert, null where they need an uncompressed fine-tuning that was not given. */
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

/** Measures experts on texts. @returns their figures in the order of the subjects */
export async function evaluateTexts(
  evaluation: Evaluation,
  subjects: readonly Subject[],
  range: WindowRange,
): Promise<ExpertFigures[]> {
  const experts: ExpertFigures[] = []
  const bar = progressBar('evaluating')
  try {
    // Compressions of one fine-tuning share the forward passes of the fine-tuning and of the base.
    const groups = [...groupedBy(subjects, ({ text, finetuned }) => `${text}\n${finetuned}`).values()]
    const steps = (subjects.length + 2 * groups.length) * range.count
    let done = 0
    for (const group of groups)
      experts.push(...(await measure(group, evaluation, range, () => bar.update(++done, steps))))
  } finally {
    bar.stop()
  }
  return experts.sort((a, b) => order(subjects, a.id) - order(subjects, b.id))
}

/** Experts that were made from one fine-tuning, on its text. */
async function measure(
  subjects: readonly Subject[],
  evaluation: Evaluation,
  range: WindowRange,
  onWindow: () => void,
): Promise<ExpertFigures[]> {
  const [{ text, finetuned }] = subjects
  const windows = textWindows(await readText(text), evaluation.tokenizer, range)
  const examples = windows.map(({ example }) => example)
  const bytes = windows.reduce((sum, window) => sum + window.bytes, 0)
  const bpbOf = (scores: readonly ExampleScore[]) => scores.reduce((sum, { bits }) => sum + bits, 0) / bytes
  const { base } = evaluation
  const baseBpb = bpbOf(await evaluation.score(examples, {}, { onExample: onWindow }))
  let tuned: { bpb: number; f16Bytes: number; logits: LogitsFile } | undefined
  if (finetuned !== undefined && !staysQuantized(base.fit.weights)) {
    const variant = await uncompressedVariant(base, finetuned, evaluation.scratch('adapter.trit'))
    const logits = await evaluation.logitsFile()
    const scores = await evaluation.score(examples, variant, { keep: logits, onExample: onWindow })
    await variant.close()
    tuned = { bpb: bpbOf(scores), f16Bytes: variant.f16Bytes, logits }
  }
  const figures: ExpertFigures[] = []
  for (const { id, path, f16Delta } of subjects) {
    const variant = await expertVariant(base, path)
    const beside = tuned === undefined ? [] : [tuned.logits]
    const scores = await evaluation.score(examples, variant, { beside, onExample: onWindow })
    await variant.close()
    const size = (await fileBytes(path))!
    const compressed = bpbOf(scores)
    const closeness = tuned && closenessTo(scores, 0)
    const delta = tuned === undefined ? f16Delta : tuned.f16Bytes
    figures.push({
      id,
      bytes: size,
      ratioToF16Delta: delta === undefined ? null : delta / size,
      bpb: { base: baseBpb, finetuned: tuned?.bpb ?? null, compressed },
      gainKept: (tuned && gainRetained(baseBpb, tuned.bpb, compressed)) ?? null,
      agreement: closeness?.agreement.value ?? null,
      kl: closeness?.kl.value ?? null,
      windows: examples.length,
    })
  }
  await tuned?.logits.close()
  return figures
}

function order(subjects: readonly Subject[], id: string): number {
  return subjects.findIndex((subject) => subject.id === id)
}

/** The figures as a table for people. */
export function textTable(experts: readonly ExpertFigures[]): string {
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
