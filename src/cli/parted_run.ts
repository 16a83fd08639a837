/**
 * Outputs of a language model on rows of tokens that not all experts read from their start: each row is read in parts over a
 * cache, with those experts that act on a part.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { actsFrom } from '../format/invocation.ts'
import type { Values } from '../reference/index.ts'
import type { InputValues } from './graph_inputs.ts'
import type { ModelOutput } from './model_outputs.ts'

type Given = ReadonlyMap<string, InputValues>

/**
 * @param invocations - of each expert; undefined for one that acts on every token
 * @param run - runs the model on inputs with the experts at some positions of that list
 * @throws {TritswapError} `input` without token ids, `unsupported` for a model without a cache
 */
export async function outputInParts(
  given: Given,
  invocations: readonly (readonly number[] | undefined)[],
  run: (given: Given, acting: readonly number[]) => Promise<ModelOutput>,
): Promise<ModelOutput> {
  const ids = given.get('input_ids')
  if (ids === undefined || ids.dims.length !== 2) {
    throw new TritswapError(
      'input',
      'Cannot run an activated LoRA: expected input_ids of [rows, tokens] among the inputs, in which its invocation is looked for',
    )
  }
  const [rows, tokens] = ids.dims
  const found: ModelOutput[] = []
  for (let row = 0; row < rows; row++) {
    const rowIds = Array.from(slice(ids, row, 0, tokens).data, Number)
    const starts = invocations.map((invocation) => actsFrom(rowIds, invocation))
    const stops = [...new Set([...starts.filter((start) => start > 0 && start < tokens), tokens])]
    const parts: ModelOutput[] = []
    let from = 0
    for (const stop of stops.sort((a, b) => a - b)) {
      const acting = starts.flatMap((start, i) => (start <= from ? [i] : []))
      const part = await run(partOf(given, { row, from, stop }, parts.at(-1)?.caches), acting)
      if (stop < tokens && part.caches.size === 0) {
        throw new TritswapError(
          'unsupported',
          `Cannot run an activated LoRA with ${part.file}: it puts out no keys and values, so what comes before the invocation cannot be read by the base alone; export it with a cache`,
          { fields: { file: part.file } },
        )
      }
      parts.push(part)
      from = stop
    }
    found.push({ ...parts[0], values: joined(parts.map(({ values }) => values)) })
  }
  const [first] = found
  const values = found.map((output) => output.values)
  return { ...first, values: { ...joined(values), dims: [rows, ...first.values.dims.slice(1)] } }
}

/** The inputs of some tokens of a row, behind what was read of it. */
function partOf(
  given: Given,
  { row, from, stop }: { row: number; from: number; stop: number },
  caches: Given = new Map(),
): Given {
  const inputs = new Map<string, InputValues>(caches)
  for (const [name, values] of given)
    if (name === 'input_ids' || name === 'position_ids') inputs.set(name, slice(values, row, from, stop))
  const mask = given.get('attention_mask')
  const ones: InputValues = { dims: [1, stop], data: new Int32Array(stop).fill(1) }
  inputs.set('attention_mask', mask === undefined ? ones : slice(mask, row, 0, stop))
  const positions = Int32Array.from({ length: stop - from }, (_, i) => from + i)
  if (!inputs.has('position_ids')) inputs.set('position_ids', { dims: [1, stop - from], data: positions })
  inputs.set('cache_position', { dims: [stop - from], data: positions })
  return inputs
}

/** Columns of a row of [rows, columns]. */
function slice({ dims, data }: InputValues, row: number, from: number, to: number): InputValues {
  const start = row * dims[1]
  return { dims: [1, to - from], data: data.slice(start + from, start + to) }
}

/** One behind the other along their positions. */
function joined(values: readonly Values[]): Values {
  const data = new Float32Array(values.reduce((sum, part) => sum + part.data.length, 0))
  let at = 0
  for (const part of values) {
    data.set(part.data, at)
    at += part.data.length
  }
  const [batch, , ...rest] = values[0].dims
  return { data, dims: [batch, values.reduce((sum, part) => sum + part.dims[1], 0), ...rest] }
}
