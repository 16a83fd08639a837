import { expect, test, vi } from 'vitest'
import { type GpuTensor, hoistedSession } from '../../src/model/hoisted_session.ts'

const weight = (dims: number[]): GpuTensor => ({
  location: 'gpu-buffer',
  type: 'float32',
  dims,
  gpuBuffer: {} as GPUBuffer,
})

test('hides the hoisted inputs and feeds them, and nothing else changes', async () => {
  const session = {
    inputNames: ['input_ids', 'w', 'past'],
    inputMetadata: [{ name: 'input_ids' }, { name: 'w' }, { name: 'past' }],
    outputNames: ['logits'],
    run: vi.fn(async (feeds: Record<string, unknown>) => feeds),
    release: vi.fn(async () => {}),
  }
  const around = vi.fn((run: () => Promise<Record<string, unknown>>) => run())
  const w = weight([2, 2])
  const wrapped = hoistedSession(
    session,
    new Map([
      ['w', w],
      ['of_another_graph', weight([1])],
    ]),
    around,
  )
  expect(wrapped.inputNames).toEqual(['input_ids', 'past'])
  expect(wrapped.inputMetadata).toEqual([{ name: 'input_ids' }, { name: 'past' }])
  expect(wrapped.outputNames).toEqual(['logits'])
  // onnxruntime-web throws on a feed that the graph does not have.
  expect(await wrapped.run({ input_ids: 1, past: 2 })).toEqual({ input_ids: 1, past: 2, w })
  expect(around).toHaveBeenCalledOnce()
  await wrapped.release()
  expect(session.release).toHaveBeenCalledOnce()
})
