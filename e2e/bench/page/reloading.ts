import { AutoModelForCausalLM, AutoTokenizer, env, type PreTrainedModel, Tensor } from '@xenova/transformers'
import * as ort from 'onnxruntime-web/webgpu'
import type { PageConfig } from '../protocol.ts'
import { type Group, timed } from './bench.ts'

interface ReloadingState {
  config: PageConfig
  ids: number[]
  current: number
  model: PreTrainedModel
  coldMs: number
}

/** GPU bytes that this thread has allocated and not freed. */
let held = 0

function countBuffers(): void {
  const { createBuffer } = GPUDevice.prototype
  const { destroy } = GPUBuffer.prototype
  const open = new WeakSet<GPUBuffer>()
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor)
    open.add(buffer)
    held += descriptor.size
    return buffer
  }
  GPUBuffer.prototype.destroy = function () {
    if (open.delete(this)) held -= this.size
    return destroy.call(this)
  }
}

/**
 * Sets transformers.js up.
 * @param root - of the model folders
 * @param useBrowserCache - as people have it: what was downloaded once comes from there
 */
export function configure({ ort: folder }: PageConfig, root: string, useBrowserCache: boolean): void {
  env.allowLocalModels = false
  env.allowRemoteModels = true
  env.remoteHost = root
  env.remotePathTemplate = '{model}/'
  env.useBrowserCache = useBrowserCache
  env.useWasmCache = false
  const { wasm } = env.backends.onnx
  if (!wasm) throw new Error('transformers.js has no wasm backend')
  wasm.wasmPaths = {
    mjs: `${folder}ort-wasm-simd-threaded.asyncify.mjs`,
    wasm: `${folder}ort-wasm-simd-threaded.asyncify.wasm`,
  }
  wasm.numThreads = 1
}

export function loadFull({ peers, dtype }: PageConfig, which: number): Promise<PreTrainedModel> {
  return AutoModelForCausalLM.from_pretrained(peers.full[which], { device: 'webgpu', dtype })
}

export async function firstToken(model: PreTrainedModel, ids: number[]): Promise<void> {
  const dims = [1, ids.length]
  await model.generate({
    input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), dims),
    attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), dims),
    max_new_tokens: 1,
    do_sample: false,
  } as never)
}

const CASES = [
  'reload of the full model',
  'reload of the full model: session ready',
  'reload of the full model to the first token',
  'first token of the full model',
] as const

/** The device that onnxruntime-web has chosen. */
async function gpuIdle(): Promise<void> {
  const { webgpu } = env.backends.onnx as { webgpu?: { device?: GPUDevice | Promise<GPUDevice> } }
  await (await webgpu?.device)?.queue.onSubmittedWorkDone()
}

/**
 * What people do without experts: the whole fine-tuned model, disposed of and loaded again from the browser's cache. A
 * session that is ready has yet to compile its shaders, so a reload costs what it adds to the next first token.
 */
export const reloading: Group<ReloadingState> = {
  name: 'reloading',

  async open(config) {
    countBuffers()
    configure(config, config.peers.root, true)
    const from = performance.now()
    const model = await loadFull(config, 0)
    await gpuIdle()
    const coldMs = performance.now() - from
    const tokenizer = await AutoTokenizer.from_pretrained(config.peers.full[0])
    // Both are in the cache from now on.
    const second = await loadFull(config, 1)
    await second.dispose()
    return { config, model, ids: tokenizer.encode(config.prompt), current: 0, coldMs }
  },

  benches: () => [
    {
      cases: CASES,
      unit: 'ms',
      share: 0.5,
      async bench(state) {
        const from = performance.now()
        await state.model.dispose()
        state.current = 1 - state.current
        state.model = await loadFull(state.config, state.current)
        await gpuIdle()
        const ready = performance.now() - from
        await firstToken(state.model, state.ids)
        const toToken = performance.now() - from
        const token = await timed(() => firstToken(state.model, state.ids))
        return { [CASES[0]]: toToken - token, [CASES[1]]: ready, [CASES[2]]: toToken, [CASES[3]]: token }
      },
    },
  ],

  facts: () => [
    {
      cases: ['cold load of the full model, unthrottled'],
      unit: 'ms',
      look: ({ coldMs }) => ({ 'cold load of the full model, unthrottled': coldMs }),
    },
    {
      cases: ['VRAM: one full model', 'VRAM: two full models'],
      unit: 'bytes',
      async look({ config, current }, notes) {
        const one = held
        const other = await loadFull(config, 1 - current)
        const two = held
        await other.dispose()
        notes.LoraAdapter =
          'LoraAdapter' in ort ? 'exported' : `onnxruntime-web ${ort.env.versions.web} exports none`
        return { 'VRAM: one full model': one, 'VRAM: two full models': two }
      },
    },
  ],

  async close({ model }) {
    await model.dispose()
  },
}
