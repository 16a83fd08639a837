import type { Target } from './target.ts'

/** Twin of shaders/gather.wgsl. */
export function gather(
  { elements, first }: { elements: readonly number[]; first: number },
  target: Target,
  values: Float32Array,
): void {
  for (const [i, element] of elements.entries()) values[first + i] = target.valueOf(target.load(element))
}
