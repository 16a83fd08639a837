/**
 * What a sweep measures its points on: the windows of a text, or chats with wanted answers.
 *
 * @module
 */

import { chatExample, type Example } from '../engine/answered_example.ts'
import { ANSWER_COLUMNS, type AnswerFigures, answerCells, answerFigures } from './answer_figures.ts'
import { parseChats } from './chats.ts'
import { readText } from './file_source.ts'
import { closenessTo, type ExampleScore, gainRetained } from './scores.ts'
import { BESIDE, type SweepEvaluation } from './sweep_evaluation.ts'
import { textWindows, type WindowRange } from './text_windows.ts'
import type { Tokenizer } from './tokenizer.ts'

/** Figures of a point on a text; `gainKept` is null where the fine-tuning gains nothing. */
interface TextFigures {
  bpb: number
  gainKept: number | null
  agreement: number
  kl: number
}

export type PointFigures = TextFigures | AnswerFigures

export interface Measure {
  examples: readonly Example[]
  /** Of a point. */
  figures(scores: readonly ExampleScore[], sweep: SweepEvaluation): PointFigures
  /** Of the base and the uncompressed task vector, under the names of the report. */
  ends(sweep: SweepEvaluation): Record<string, unknown>
  columns: readonly string[]
  cells(figures: PointFigures): string[]
}

export async function textMeasure(path: string, tokenizer: Tokenizer, range: WindowRange): Promise<Measure> {
  const windows = textWindows(await readText(path), tokenizer, range)
  const bytes = windows.reduce((sum, window) => sum + window.bytes, 0)
  const bpbOf = (scores: readonly ExampleScore[]) => scores.reduce((sum, { bits }) => sum + bits, 0) / bytes
  return {
    examples: windows.map(({ example }) => example),
    figures(scores, sweep): TextFigures {
      const bpb = bpbOf(scores)
      const { agreement, kl } = closenessTo(scores, BESIDE.uncompressed)
      return {
        bpb,
        gainKept: gainRetained(bpbOf(sweep.base), bpbOf(sweep.uncompressed), bpb) ?? null,
        agreement: agreement.value,
        kl: kl.value,
      }
    },
    ends: ({ base, uncompressed }) => ({ base: bpbOf(base), finetuned: bpbOf(uncompressed) }),
    columns: ['bpb', 'gain kept', 'agreement', 'KL'],
    cells(figures) {
      const { bpb, gainKept, agreement, kl } = figures as TextFigures
      const kept = gainKept === null ? '' : `${(100 * gainKept).toFixed(1)}%`
      return [bpb.toFixed(4), kept, `${(100 * agreement).toFixed(1)}%`, kl.toFixed(4)]
    },
  }
}

/** @param options.limit - only the first chats */
export async function chatMeasure(
  path: string,
  tokenizer: Tokenizer,
  { system, limit }: { system?: string; limit?: number },
): Promise<Measure> {
  const chats = parseChats(await readText(path), path).slice(0, limit)
  return {
    examples: chats.map((chat) => chatExample(chat, tokenizer.template, system)),
    figures: (scores, sweep) =>
      answerFigures(scores, {
        toBase: { at: BESIDE.base, scores: sweep.base },
        toUncompressed: { at: BESIDE.uncompressed, scores: sweep.uncompressed },
      }),
    ends: ({ base, uncompressed }) => ({
      base: answerFigures(base, {}),
      uncompressed: answerFigures(uncompressed, { toBase: { at: BESIDE.base, scores: base } }),
    }),
    columns: ANSWER_COLUMNS,
    cells: (figures) => answerCells(figures as AnswerFigures),
  }
}

/** What a sweep chooses the least of: KL with the uncompressed task vector, or wrong answers. */
export type Choice = 'kl' | 'exact'

/** Of two points that are equally good by exact match, the one nearer to the uncompressed task vector is better. */
export function costOf(figures: PointFigures, by: Choice): number {
  if (!('exact' in figures)) return figures.kl
  const kl = figures.toUncompressed!.kl.value
  return by === 'kl' ? kl : 1 - figures.exact.value + 1e-6 * Math.min(kl, 1)
}
