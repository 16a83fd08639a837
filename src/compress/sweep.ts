/**
 * One task vector at many densities and alphas: the size of each file, and its error.
 *
 * @module
 */
import { buildHead, parseHead } from '../format/head.ts'
import type { PayloadSpool } from '../format/writer.ts'
import { compressTaskVector } from './compress.ts'
import type { CompressContext, CompressReport, ExpertTexts } from './report.ts'
import type { RuleOptions } from './rules.ts'
import type { TaskVector } from './task_vector.ts'
import { roundScale } from './ternarize.ts'

/** The densities of the ComPEFT paper. */
export const PUBLISHED_DENSITIES = [0.05, 0.1, 0.2, 0.3, 0.5]
/** Its alphas, and some above: small models want more than 10 at low densities. */
export const PUBLISHED_ALPHAS = [0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16]
/** Around 1, where scales that follow the kept entries are at their best. */
export const FINE_ALPHAS = [0.6, 0.7, 0.8, 0.9]

export interface SweepPoint {
  density: number
  alpha: number
  /** Of the whole file. */
  bytes: number
  ratioToF16: number
  /** ‖S − tau‖ / ‖tau‖, S being what the file decodes to. */
  error: number
  /** Of the angle between S and tau; does not depend on alpha under one scale. */
  cosine: number
  /** The file is this head and the payload of its density. */
  head: Uint8Array<ArrayBuffer>
}

/**
 * Compresses at every density and reports every alpha. Which entries are kept does not depend on alpha, so a density
 * is compressed once and its other files differ in their heads only.
 * @param spoolFor - where the payload of a density goes
 */
export async function* sweep(
  task: TaskVector,
  options: RuleOptions & ExpertTexts,
  { densities, alphas }: { densities: readonly number[]; alphas: readonly number[] },
  { spoolFor, ...context }: Omit<CompressContext, 'spool'> & { spoolFor: (density: number) => PayloadSpool },
): AsyncGenerator<SweepPoint[]> {
  for (const density of densities) {
    const report = await compressTaskVector(
      task,
      { ...options, density, alpha: 1 },
      { ...context, spool: spoolFor(density) },
    )
    const points: SweepPoint[] = []
    for (const alpha of alphas) points.push(await pointAt(report, density, alpha))
    yield points
  }
}

async function pointAt(report: CompressReport, density: number, alpha: number): Promise<SweepPoint> {
  const { tensors } = report
  const scales = new Map(
    tensors.flatMap(({ name, fit }) =>
      fit?.ternary === undefined ? [] : [[name, roundScale(alpha * fit.ternary.unit, name)] as const],
    ),
  )
  const head = await parseHead(report.head, 'the compressed file')
  const { table, chunkBytes, payloadBytes, chunkHashes } = head
  const bytes = buildHead(
    {
      ...table,
      compression: { ...table.compression, alpha },
      tensors: table.tensors.map((tensor) => {
        const scale = scales.get(tensor.name)
        return scale === undefined ? tensor : { ...tensor, scale }
      }),
    },
    Math.log2(chunkBytes),
    payloadBytes,
    chunkHashes,
  )
  // ⟨S, tau⟩, ‖S‖² and ‖tau‖²; a dense tensor is taken to be exact.
  let product = 0
  let stored = 0
  let squares = 0
  let weights = 0
  for (const { name, kept, weights: count, fit } of tensors) {
    const sumSquares = fit?.sumSquares ?? 0
    const scale = scales.get(name) ?? 0
    product += fit?.ternary === undefined ? sumSquares : scale * fit.ternary.sumKept
    stored += fit?.ternary === undefined ? sumSquares : scale * scale * kept
    squares += sumSquares
    weights += count
  }
  const size = bytes.length + payloadBytes
  return {
    density,
    alpha,
    bytes: size,
    ratioToF16: (2 * weights) / size,
    error: Math.sqrt(Math.max(0, stored - 2 * product + squares) / squares),
    cosine: stored === 0 ? 0 : product / Math.sqrt(stored * squares),
    head: bytes,
  }
}
