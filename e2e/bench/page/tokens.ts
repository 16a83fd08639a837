import { TextModel } from '../../../src/engine/text_model.ts'
import { type Gpu, requestGpu } from '../../../src/gpu/index.ts'
import { type AttachedExpert, type AttachedExperts, attachExperts } from '../../../src/loader/index.ts'
import { type GpuTensor, hoistedSession, type OrtSession } from '../../../src/model/hoisted_session.ts'
import type { PageConfig } from '../protocol.ts'
import type { Bench, Group } from './bench.ts'
import { uploadFactors, widen } from './merging.ts'
import { tokensPerSecond } from './switching.ts'

interface TokensState {
  gpu: Gpu
  config: PageConfig
  plain: TextModel
  hoisted: TextModel
  attached: AttachedExperts
  experts: AttachedExpert[]
  lora: TextModel
  /** Sessions of `lora` with one or the other adapter's factors. */
  adapters: Record<string, OrtSession>[]
  factors: GPUBuffer[][]
}

/** Unmodified transformers.js over the plain ONNX folder at `root`. */
export function loadPlain(
  { device }: Gpu,
  root: string,
  { ort }: PageConfig,
  dtype: string,
): Promise<TextModel> {
  return TextModel.load({
    files: async (path) => {
      const response = await fetch(`${root}${path}`)
      return response.ok ? response : undefined
    },
    ort: {
      mjs: `${ort}ort-wasm-simd-threaded.asyncify.mjs`,
      wasm: `${ort}ort-wasm-simd-threaded.asyncify.wasm`,
    },
    device,
    dtype,
  })
}

/** Tokens per second of a model after its first token, each decided by the most likely. */
export async function speedOf(
  model: TextModel,
  { prompt, newTokens }: PageConfig,
  sessions: Record<string, OrtSession> = model.sessions,
): Promise<number> {
  const times: number[] = []
  const onToken = () => {
    times.push(performance.now())
    return false
  }
  await model.generate({ ids: model.encode(prompt) }, sessions, onToken, { maxNewTokens: newTokens + 1 })
  return tokensPerSecond(times)
}

async function lastLogits(
  model: TextModel,
  { config }: TokensState,
  sessions: Record<string, OrtSession> = model.sessions,
): Promise<Float32Array> {
  const { data, vocabulary } = await model.logits(model.encode(config.prompt), sessions)
  return data.slice(-vocabulary)
}

function equal(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]))
}

const hoistedWith = (name: string, count: number): Bench<TokensState> => ({
  cases: [name],
  unit: 'tokens/s',
  async before({ attached, experts }) {
    await attached.activate(
      experts.slice(0, count).map((expert) => ({ expert, weight: 1 / Math.max(1, count) })),
    )
  },
  bench: async (state) => ({ [name]: await speedOf(state.hoisted, state.config) }),
})

/**
 * Tokens per second of one thread's sessions on one device: plain transformers.js against the same model with its
 * weights in our own buffers, with experts merged into them and with LoRA factors beside them.
 */
export const tokens: Group<TokensState> = {
  name: 'tokens',

  async open(config) {
    const gpu = await requestGpu()
    const { peers, fast } = config
    const plain = await loadPlain(gpu, `${peers.root}${peers.base}/`, config, config.dtype)
    const hoisted = await loadPlain(gpu, `${peers.root}${peers.base}/`, config, config.dtype)
    const attached = await attachExperts(
      { sessions: hoisted.sessions },
      { model: config.model, device: gpu.device },
    )
    const experts = []
    for (const { id, url, rootHash } of config.experts.slice(0, 4))
      experts.push(await attached.load({ source: `${fast}${url}`, id, rootHash }))
    const lora = await loadPlain(gpu, `${peers.root}${peers.lora}/`, config, config.dtype)
    const factors: GPUBuffer[][] = []
    const adapters = []
    for (const file of peers.loraWeights) {
      const bytes = new Uint8Array(await (await fetch(`${fast}${file}`)).arrayBuffer())
      const buffers = await uploadFactors(gpu, widen(bytes, config.dtype), config)
      factors.push(buffers)
      const feeds = new Map(
        peers.loraFactors.map(({ input, dims }, i): [string, GpuTensor] => [
          input,
          {
            location: 'gpu-buffer',
            type: config.dtype === 'fp16' ? 'float16' : 'float32',
            dims,
            gpuBuffer: buffers[i],
          },
        ]),
      )
      adapters.push(
        Object.fromEntries(
          Object.entries(lora.sessions).map(([name, session]) => [
            name,
            hoistedSession(session, feeds, (run) => run()),
          ]),
        ),
      )
    }
    return { gpu, config, plain, hoisted, attached, experts, lora, adapters, factors }
  },

  benches: ({ experts }) => [
    {
      cases: ['tokens/s, plain'],
      unit: 'tokens/s',
      bench: async (state) => ({ 'tokens/s, plain': await speedOf(state.plain, state.config) }),
    },
    hoistedWith('tokens/s, hoisted', 0),
    hoistedWith('tokens/s, hoisted, 1 expert merged', 1),
    ...(experts.length >= 4 ? [hoistedWith('tokens/s, hoisted, 4 experts merged', 4)] : []),
    {
      cases: ['tokens/s, LoRA r=8 as inputs'],
      unit: 'tokens/s',
      bench: async (state) => ({
        'tokens/s, LoRA r=8 as inputs': await speedOf(state.lora, state.config, state.adapters[0]),
      }),
    },
    {
      cases: ['LoRA as inputs: A → B'],
      unit: 'ms',
      async bench(state) {
        const from = performance.now()
        // All there is to do: other buffers are fed from now on.
        state.adapters.reverse()
        return { 'LoRA as inputs: A → B': performance.now() - from }
      },
    },
  ],

  facts: () => [
    {
      cases: ['VRAM: f16 LoRA factors'],
      unit: 'bytes',
      async look(state, notes) {
        await state.attached.deactivate()
        const plain = await lastLogits(state.plain, state)
        notes['hoisted: logits are those of the plain session, bit for bit'] = equal(
          plain,
          await lastLogits(state.hoisted, state),
        )
        const [first] = [await lastLogits(state.lora, state, state.adapters[0])]
        const second = await lastLogits(state.lora, state, state.adapters[1])
        notes['f16 LoRA: going back is exact'] = equal(
          first,
          await lastLogits(state.lora, state, state.adapters[0]),
        )
        if (equal(first, second)) throw new Error('two adapters give the same logits: they are not fed')
        return { 'VRAM: f16 LoRA factors': state.factors[0].reduce((sum, { size }) => sum + size, 0) }
      },
    },
  ],

  async close({ attached, plain, hoisted, lora, factors, gpu }) {
    await attached.dispose()
    for (const model of [plain, hoisted, lora]) await model.dispose().catch(() => {})
    for (const buffer of factors.flat()) buffer.destroy()
    gpu.device.destroy()
  },
}
