import type { TextModel } from '../../../src/engine/text_model.ts'
import { type Gpu, requestGpu } from '../../../src/gpu/index.ts'
import { type AttachedExpert, type AttachedExperts, attachExperts } from '../../../src/loader/index.ts'
import type { PageConfig } from '../protocol.ts'
import { type Bench, type Group, timed } from './bench.ts'
import { loadPlain, speedOf } from './tokens.ts'

interface Attached {
  model: TextModel
  experts: AttachedExperts
  loaded: AttachedExpert[]
  lora: AttachedExpert
  /** The same adapter as two ternary terms of each weight. */
  terms: AttachedExpert
}

interface BindingsState {
  gpu: Gpu
  config: PageConfig
  plain: TextModel
  /** Over 4-bit weights as they are, and over the same weights as floats. */
  kept: Attached
  floats: Attached
}

/**
 * Two tokens at most: to read a prompt through 2-bit weights takes a software adapter minutes, and what counts here is
 * the tokens after it.
 */
const PROMPT = 'The'
/** Fractions of the runs asked for; the two cases that should come out equal need more. */
const SHARE = 0.25
const EQUAL_SHARE = 0.5

type Binding = 'merge' | 'side' | 'input'

async function attach(gpu: Gpu, config: PageConfig, quantized: 'keep' | 'float'): Promise<Attached> {
  const { peers, fast } = config
  const root = `${peers.root}${peers.quantized!.folder}/`
  const model = await loadPlain(gpu, root, config, 'q4')
  const experts = await attachExperts(
    { sessions: model.sessions },
    { model: root, dtype: 'q4', quantized, device: gpu.device },
  )
  const loaded = []
  for (const { id, url, rootHash } of config.experts.slice(0, 4))
    loaded.push(await experts.load({ source: `${fast}${url}`, id, rootHash }))
  const lora = await experts.load({ source: `${fast}${peers.quantized!.lora}`, id: 'LoRA' })
  const terms = await experts.load({ source: `${fast}${peers.quantized!.terms}`, id: 'terms' })
  return { model, experts, loaded, lora, terms }
}

/** Tokens per second with some experts active, each with its share of weight 1. */
function speed(
  name: string,
  which: 'kept' | 'floats',
  binding: Binding,
  choose: (attached: Attached) => AttachedExpert[],
  share = SHARE,
): Bench<BindingsState> {
  return {
    cases: [name],
    unit: 'tokens/s',
    async before(state) {
      const chosen = choose(state[which])
      await state[which].experts.activate(
        chosen.map((expert) => ({ expert, weight: 1 / chosen.length, binding })),
      )
    },
    bench: async (state) => ({
      [name]: await speedOf(state[which].model, { ...state.config, prompt: PROMPT }),
    }),
    share,
  }
}

const first = (count: number) => (attached: Attached) => attached.loaded.slice(0, count)

/** What it costs a quantized base to have experts, by how they meet it. */
export const bindings: Group<BindingsState> = {
  name: 'bindings',

  unavailable: ({ peers }) =>
    peers.quantized === undefined
      ? 'there is no plain 4-bit graph of the base with a LoRA adapter for it (--demo-model)'
      : undefined,

  async open(config) {
    const gpu = await requestGpu()
    const plain = await loadPlain(gpu, `${config.peers.root}${config.peers.quantized!.folder}/`, config, 'q4')
    const kept = await attach(gpu, config, 'keep')
    const floats = await attach(gpu, config, 'float')
    return { gpu, config, plain, kept, floats }
  },

  benches: () => [
    {
      cases: ['tokens/s, q4 plain'],
      unit: 'tokens/s',
      share: EQUAL_SHARE,
      bench: async ({ plain, config }) => ({
        'tokens/s, q4 plain': await speedOf(plain, { ...config, prompt: PROMPT }),
      }),
    },
    speed('tokens/s, q4, no expert active', 'kept', 'side', first(0), EQUAL_SHARE),
    speed('tokens/s, q4, 1 by side', 'kept', 'side', first(1)),
    speed('tokens/s, q4, 2 by side', 'kept', 'side', first(2)),
    speed('tokens/s, q4, 4 by side', 'kept', 'side', first(4)),
    speed('tokens/s, q4, LoRA by input', 'kept', 'input', ({ lora }) => [lora]),
    speed('tokens/s, q4, 2 terms by input', 'kept', 'input', ({ terms }) => [terms]),
    speed('tokens/s, q4 as floats, no expert active', 'floats', 'merge', first(0)),
    speed('tokens/s, q4 as floats, 2 terms by input', 'floats', 'input', ({ terms }) => [terms]),
    speed('tokens/s, q4 as floats, 1 by merge', 'floats', 'merge', first(1)),
    {
      cases: ['base → 2 terms by merge'],
      unit: 'ms',
      share: SHARE,
      before: async ({ floats: { experts } }) => {
        await experts.deactivate()
      },
      bench: async ({ gpu, floats: { experts, terms } }) => ({
        'base → 2 terms by merge': await timed(async () => {
          await experts.activate([{ expert: terms, weight: 1, binding: 'merge' }])
          await gpu.device.queue.onSubmittedWorkDone()
        }),
      }),
    },
    {
      cases: ['A → B by side, q4'],
      unit: 'ms',
      share: SHARE,
      before: async ({ kept: { experts, loaded } }) => {
        await experts.activate([{ expert: loaded[0], weight: 1, binding: 'side' }])
      },
      bench: async ({ kept: { experts, loaded } }) => ({
        'A → B by side, q4': await timed(() =>
          experts.activate([{ expert: loaded[1], weight: 1, binding: 'side' }]),
        ),
      }),
    },
  ],

  facts: () => [
    {
      cases: ['VRAM: q4 base', 'VRAM: one expert by side', 'VRAM: one expert by side, at 2 bits a weight'],
      unit: 'bytes',
      async look({ kept: { experts, loaded }, config }) {
        await experts.deactivate()
        const base = experts.stats().vram
        await experts.activate([{ expert: loaded[0], weight: 1, binding: 'side' }])
        const [{ sideBytes }] = experts.stats().active
        return {
          'VRAM: q4 base': base.base,
          'VRAM: one expert by side': sideBytes,
          'VRAM: one expert by side, at 2 bits a weight': config.peers.quantized!.matrixWeights / 4,
        }
      },
    },
  ],

  async close({ gpu, plain, kept, floats }) {
    for (const { experts } of [kept, floats]) await experts.dispose()
    await plain.dispose().catch(() => {})
    gpu.device.destroy()
  },
}
