import { describe, expect, test } from 'vitest'
import { graphInputs, type InputMetadata, readInput } from '../../src/cli/graph_inputs.ts'
import { readSafetensors } from '../../src/compress/safetensors.ts'
import { memorySource } from '../../src/source/memory.ts'
import { safetensors, type Values } from '../compress/checkpoints.ts'

async function givenOf(tensors: Record<string, Values>) {
  const file = await readSafetensors(memorySource(safetensors(tensors), 'inputs'))
  return new Map(await Promise.all(file.tensors.map(async (t) => [t.name, await readInput(t)] as const)))
}

const input = (name: string, type: string, shape: InputMetadata['shape'] = []) => ({ name, type, shape })
const ids: Values = { shape: [2, 3], values: [5, 6, 7, 8, 9, 1], dtype: 'I64' }

describe('what the file has', () => {
  test.each<[Values['dtype'], string, ArrayBufferView]>([
    ['I64', 'int64', BigInt64Array.of(0n, 1n, 2n)],
    ['I32', 'int64', BigInt64Array.of(0n, 1n, 2n)],
    ['I64', 'int32', Int32Array.of(0, 1, 2)],
    ['F32', 'int64', BigInt64Array.of(0n, 1n, 2n)],
    ['BOOL', 'bool', Uint8Array.of(0, 1, 1)],
    ['I64', 'float32', Float32Array.of(0, 1, 2)],
    ['F16', 'float32', Float32Array.of(0, 1, 2)],
    ['BF16', 'float16', Uint16Array.of(0, 0x3c00, 0x4000)],
    ['F32', 'float64', Float64Array.of(0, 1, 2)],
  ])('%s for an input of %s', async (dtype, type, data) => {
    const given = await givenOf({ x: { shape: [3], values: [0, 1, 2], dtype } })
    const { values, missing } = graphInputs([input('x', type)], given)
    expect(missing).toEqual([])
    expect(values.get('x')).toEqual({ type, dims: [3], data })
  })

  test('fractions for an integer, and types that no graph has, are refused', async () => {
    const given = await givenOf({ x: { shape: [1], values: [0.5] } })
    expect(() => graphInputs([input('x', 'int64')], given)).toThrow(/expected whole numbers for int64/)
    expect(() => graphInputs([input('x', 'string')], given)).toThrow(/the graph takes it as string/)
    await expect(givenOf({ x: { shape: [1], values: [1], dtype: 'I8' } })).rejects.toMatchObject({
      tag: 'unsupported',
    })
  })
})

describe('what it lacks', () => {
  test('masks, positions, types and an empty cache are made; nothing else is', async () => {
    const graph = [
      input('input_ids', 'int64'),
      input('attention_mask', 'int64'),
      input('position_ids', 'int64'),
      input('token_type_ids', 'int64'),
      input('num_logits_to_keep', 'int64'),
      input('past_key_values.0.key', 'float32', ['batch_size', 'heads', 'past_sequence_length', 'size']),
      input('past_key_values.0.value', 'float16', ['batch_size', 2, 'past_sequence_length', 16]),
      input('pixel_values', 'float32'),
    ]
    const config = { num_attention_heads: 8, num_key_value_heads: 4, hidden_size: 64 }
    const { values, missing } = graphInputs(graph, await givenOf({ input_ids: ids }), config)
    expect(missing).toEqual(['pixel_values'])
    const made = Object.fromEntries(
      [...values].map(([name, { dims, data }]) => [name, [dims, Array.from(data as Float32Array, Number)]]),
    )
    expect(made).toEqual({
      input_ids: [
        [2, 3],
        [5, 6, 7, 8, 9, 1],
      ],
      attention_mask: [
        [2, 3],
        [1, 1, 1, 1, 1, 1],
      ],
      position_ids: [
        [2, 3],
        [0, 1, 2, 0, 1, 2],
      ],
      token_type_ids: [
        [2, 3],
        [0, 0, 0, 0, 0, 0],
      ],
      num_logits_to_keep: [[], [0]],
      'past_key_values.0.key': [[2, 4, 0, 8], []],
      'past_key_values.0.value': [[2, 2, 0, 16], []],
    })
  })

  test('a decoder takes its own tokens, the encoder’s mask, and its states where they are', async () => {
    const decoder = [
      input('input_ids', 'int64'),
      input('encoder_attention_mask', 'int64'),
      input('encoder_hidden_states', 'float32'),
      input('use_cache_branch', 'bool'),
    ]
    const given = await givenOf({
      input_ids: ids,
      decoder_input_ids: { shape: [2, 1], values: [0, 0], dtype: 'I64' },
    })
    expect(graphInputs(decoder, given).missing).toEqual(['encoder_attention_mask', 'encoder_hidden_states'])
    given.set('encoder_hidden_states', { dims: [2, 3, 1], data: new Float32Array(6) })
    const { values, missing } = graphInputs(decoder, given)
    expect(missing).toEqual([])
    expect(values.get('input_ids')?.dims).toEqual([2, 1])
    expect(values.get('encoder_attention_mask')?.dims).toEqual([2, 3])
    expect(values.get('use_cache_branch')).toEqual({ type: 'bool', dims: [1], data: Uint8Array.of(0) })
  })
})
