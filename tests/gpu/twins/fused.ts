import { apply } from './apply.ts'
import type { Job } from './job.ts'
import { revert } from './revert.ts'
import type { Target } from './target.ts'

/** Twin of shaders/fused.wgsl: what one pass does is a revert and then an apply, by definition. */
export function fused(
  job: Job,
  target: Target,
  arena: Uint32Array,
  displaced: Uint32Array,
  journal: Uint32Array,
): void {
  const [old, next] = job.streams
  revert({ ...job, streams: [old] }, target, arena, displaced)
  apply({ ...job, streams: [next] }, target, arena, journal)
}
