import type { RunJob } from '../compress/jobs.ts'
import type { RuleOptions } from '../compress/rules.ts'
import { type SweepPoint, sweep } from '../compress/sweep.ts'
import type { TaskVector } from '../compress/task_vector.ts'
import { memorySpool } from '../format/writer.ts'
import type { ByteSource } from '../source/source.ts'
import type { Evaluation } from './evaluation.ts'
import { progressBar } from './progress.ts'
import { SweepEvaluation } from './sweep_evaluation.ts'
import { type Choice, costOf, type Measure, type PointFigures } from './sweep_measure.ts'
import { writeUncompressed } from './uncompressed.ts'

/** What is compressed, and with what. */
export interface SweepRequest {
  task: TaskVector
  rules: RuleOptions
  run?: RunJob
  sha256: (source: ByteSource) => Promise<string | undefined>
}

export interface SweepGrid {
  densities: readonly number[]
  alphas: readonly number[]
}

/** A point with what it does. */
export type MeasuredPoint = Omit<SweepPoint, 'head'> & { eval: PointFigures }

/** What points are measured on. */
export interface Measures {
  /** To choose on. */
  main: Measure
  /** To report on. */
  test?: Measure
  by: Choice
}

export interface MeasuredSweep {
  points: MeasuredPoint[]
  /** In the order of the densities. */
  bestByDensity: MeasuredPoint[]
  best: MeasuredPoint
  /** Of base and uncompressed task vector. */
  ends: Record<string, unknown>
  /** The best of each density on other examples. */
  test?: Record<string, unknown> & { bestByDensity: PointFigures[] }
}

/** Sweeps, measures every point, and chooses. */
export async function measuredSweep(
  evaluation: Evaluation,
  { task, rules, run, sha256 }: SweepRequest,
  { densities, alphas }: SweepGrid,
  { main, test, by }: Measures,
): Promise<MeasuredSweep> {
  const bar = progressBar('sweeping')
  const tested = test === undefined ? 0 : (densities.length + 2) * test.examples.length
  const steps = (densities.length * alphas.length + 2) * main.examples.length + tested
  let done = 0
  const onExample = () => bar.update(++done, steps)
  try {
    const uncompressed = evaluation.scratch('uncompressed.trit')
    await writeUncompressed(task, uncompressed, rules)
    const open = ({ examples }: Measure) =>
      SweepEvaluation.open(evaluation, examples, uncompressed, onExample)

    const chosenOn = await open(main)
    const points: MeasuredPoint[] = []
    const best: { point: MeasuredPoint; file: Uint8Array }[] = []
    let payload = memorySpool()
    const spoolFor = () => {
      payload = memorySpool()
      return payload
    }
    for await (const row of sweep(task, rules, { densities, alphas }, { run, sha256, spoolFor })) {
      const measured = []
      for (const { head, ...rest } of row) {
        const file = payload.join(head)
        const figures = main.figures(await chosenOn.score(file, onExample), chosenOn)
        measured.push({ point: { ...rest, eval: figures }, file })
      }
      points.push(...measured.map(({ point }) => point))
      best.push(least(measured, ({ point }) => costOf(point.eval, by)))
    }
    await chosenOn.close()
    const bestByDensity = best.map(({ point }) => point)
    const result: MeasuredSweep = {
      points,
      bestByDensity,
      best: least(bestByDensity, (point) => costOf(point.eval, by)),
      ends: main.ends(chosenOn),
    }
    if (test === undefined) return result
    const reportedOn = await open(test)
    const figures: PointFigures[] = []
    for (const { file } of best)
      figures.push(test.figures(await reportedOn.score(file, onExample), reportedOn))
    await reportedOn.close()
    return { ...result, test: { ...test.ends(reportedOn), bestByDensity: figures } }
  } finally {
    bar.stop()
  }
}

function least<T>(items: readonly T[], costOf: (item: T) => number): T {
  return items.reduce((best, item) => (costOf(item) < costOf(best) ? item : best))
}
