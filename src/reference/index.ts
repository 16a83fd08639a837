/**
 * A base and its experts in ordinary memory, by the reference decoder: what results on a GPU are compared with, and
 * what evaluation in Node runs on. No page imports it.
 *
 * @module
 */
export { type AdmittedExpert, type BoundExperts, ReferenceBase } from './base.ts'
export { bypassOnCpu, type CpuBypass } from './bypass.ts'
export { lastPositions, rangeOf, relativeDifference, type Values } from './difference.ts'
export { type ReferenceExpert, readExpert } from './expert.ts'
export { ExpertFit } from './expert_fit.ts'
export type { CpuFeed } from './graph_feeds.ts'
export { mergedTensors, type TensorValues } from './merge.ts'
export { mergeChange, StreamedExpert } from './streamed_expert.ts'
export { StreamedWeights, type WeightChange } from './streamed_weights.ts'
export type { WeightTable } from './weight_table.ts'
export { ReferenceWeights } from './weights.ts'
