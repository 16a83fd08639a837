/**
 * A bounded pipeline: items start ahead of their turn and their results come out in order. Items are in work together
 * while the sum of their sizes stays within `budget` (one always is), so memory is bounded and the output does not
 * depend on timing.
 */
export async function* pipelined<T, R>(
  items: readonly T[],
  sizeOf: (item: T) => number,
  budget: number,
  start: (item: T) => Promise<R>,
): AsyncGenerator<[T, R]> {
  const running: { item: T; size: number; result: Promise<R> }[] = []
  let size = 0
  let next = 0
  while (next < items.length || running.length > 0) {
    while (next < items.length && (running.length === 0 || size + sizeOf(items[next]) <= budget)) {
      const item = items[next++]
      const result = start(item)
      // Handled when its turn comes; until then a failure must not count as unhandled.
      result.catch(() => {})
      running.push({ item, size: sizeOf(item), result })
      size += sizeOf(item)
    }
    const first = running[0]
    yield [first.item, await first.result]
    running.shift()
    size -= first.size
  }
}
