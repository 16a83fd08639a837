import { TritswapError } from '../errors.ts'
import type { TritHead } from './head.ts'

/** Chunks `[first, last]` that lie one after the other: one request. */
export interface FetchRange {
  first: number
  last: number
  /** In the file. */
  offset: number
  end: number
}

/** What to read of a file, and from where. All lists ascend. */
export interface FetchPlan {
  /** Wanted chunks that the caller has already. */
  cached: number[]
  /** The other wanted chunks, in as few requests as possible. */
  ranges: FetchRange[]
  /** Payload bytes of all wanted chunks. */
  bytes: number
}

export interface PlanOptions {
  /** Names of the tensors to read; all by default. */
  tensors?: readonly string[]
  /** Indexes of chunks that the caller has. */
  cached?: ReadonlySet<number>
}

type Layout = Pick<TritHead, 'chunkBytes' | 'chunks' | 'headBytes' | 'payloadBytes'>

/**
 * Plans the reading of a file or of some of its tensors. Pure: nothing is read.
 * @throws {TritswapError} `input` for a tensor that the file does not have
 */
export function planFetch(
  head: Layout & Pick<TritHead, 'table'>,
  { tensors, cached = new Set() }: PlanOptions = {},
): FetchPlan {
  const wanted = wantedChunks(head, tensors)
  return {
    cached: wanted.filter((index) => cached.has(index)),
    ranges: chunkRanges(
      head,
      wanted.filter((index) => !cached.has(index)),
    ),
    bytes: wanted.reduce((sum, index) => sum + endOf(head, index) - startOf(head, index), 0),
  }
}

/** Chunks in ascending order as runs. */
export function chunkRanges(head: Layout, chunks: readonly number[]): FetchRange[] {
  const ranges: FetchRange[] = []
  for (const index of chunks) {
    const range = ranges.at(-1)
    if (range?.last === index - 1) {
      range.last = index
      range.end = endOf(head, index)
    } else {
      ranges.push({ first: index, last: index, offset: startOf(head, index), end: endOf(head, index) })
    }
  }
  return ranges
}

function startOf(head: Layout, index: number): number {
  return head.headBytes + index * head.chunkBytes
}

function endOf(head: Layout, index: number): number {
  return head.headBytes + Math.min((index + 1) * head.chunkBytes, head.payloadBytes)
}

function wantedChunks(head: Layout & Pick<TritHead, 'table'>, names?: readonly string[]): number[] {
  if (names === undefined) return Array.from({ length: head.chunks }, (_, index) => index)
  const wanted = new Set<number>()
  for (const name of names) {
    const tensor = head.table.tensors.find((candidate) => candidate.name === name)
    if (!tensor) {
      throw new TritswapError('input', `Cannot fetch tensor ${name}: the file has no tensor of this name`, {
        fields: { tensor: name },
      })
    }
    const first = Math.floor(tensor.offset / head.chunkBytes)
    const end = Math.ceil((tensor.offset + tensor.bytes) / head.chunkBytes)
    for (let index = first; index < end; index++) wanted.add(index)
  }
  return [...wanted].sort((a, b) => a - b)
}
