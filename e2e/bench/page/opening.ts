import { AutoTokenizer, type PreTrainedModel } from '@xenova/transformers'
import type { Expert, ExpertLoader } from '../../../src/loader/index.ts'
import { openingCase, type Way } from '../names.ts'
import type { PageConfig, RegistryOfOne } from '../protocol.ts'
import { type Bench, type Group, timed } from './bench.ts'
import { openLoader } from './loading.ts'
import { configure, firstToken, loadFull } from './reloading.ts'

interface OpeningState {
  config: PageConfig
  loader: ExpertLoader
  /** What the last run put on. */
  held: Expert | undefined
  /** Lists that no run has asked for. */
  lists: number
  /** Where a fine-tuned model is loaded again: the one that the visitor leaves, and the request in its tokens. */
  full: { model: PreTrainedModel; ids: number[]; which: number } | undefined
}

/** One way; before each run the expert is nowhere: not in VRAM, not in the cache. */
function way(name: Way, run: (state: OpeningState) => Promise<Expert | undefined>): Bench<OpeningState> {
  return {
    cases: [openingCase(name)],
    unit: 'ms',
    share: 0.5,
    async before(state) {
      await state.loader.deactivate()
      await state.held?.release()
      state.held = undefined
      await state.loader.cache.clear()
    },
    async bench(state) {
      const ms = await timed(async () => {
        state.held = await run(state)
        await state.loader.generate(state.config.prompt, { maxNewTokens: 1 }).result
      })
      if (state.held?.timings.networkBytes === 0) throw new Error(`${name}: the expert was here already`)
      return { [openingCase(name)]: ms }
    },
  }
}

async function retrieved(
  { loader, config }: OpeningState,
  { registry }: RegistryOfOne,
  query = '',
): Promise<Expert> {
  const { expert, why } = await loader.retrieve(config.prompt, {
    registry: `${config.slow}${registry}${query}`,
  })
  if (expert === undefined) throw new Error(`the request found no expert: ${why}`)
  return expert
}

/**
 * The opening problem: from a request to its first token with the base at hand and the expert nowhere cached, on a slow line.
 * What a first visit compiles is compiled before; a list of experts is at hand unless a case says otherwise.
 */
export const opening: Group<OpeningState> = {
  name: 'opening',

  async open(config) {
    return { config, loader: await openLoader(config), held: undefined, lists: 0, full: undefined }
  },

  benches: ({ opening: { adapter, tuned, f16 }, slow }) => [
    way('base alone', async () => undefined),
    way('auto, .trit of the adapter', (state) => retrieved(state, adapter)),
    way('the same, its list not yet here', (state) => retrieved(state, adapter, `?${state.lists++}`)),
    way('auto, .trit of the fine-tuning', (state) => retrieved(state, tuned)),
    way('f16 adapter by input', async ({ loader }) => {
      const { url, rootHash } = f16
      const expert = await loader.load({ source: `${slow}${url}`, id: 'f16', rootHash, binding: 'input' })
      await loader.activate(expert)
      return expert
    }),
    {
      cases: [openingCase('full fine-tuning, loaded anew')],
      unit: 'ms',
      share: 0.25,
      async setup(state) {
        const { config } = state
        const { root, full } = config.peers
        configure(config, `${config.slow}${new URL(root).pathname}`, false)
        const model = await loadFull(config, 0)
        const tokenizer = await AutoTokenizer.from_pretrained(full[0])
        state.full = { model, ids: tokenizer.encode(config.prompt), which: 0 }
      },
      async bench({ config, full }) {
        const ms = await timed(async () => {
          await full!.model.dispose()
          full!.which = 1 - full!.which
          full!.model = await loadFull(config, full!.which)
          await firstToken(full!.model, full!.ids)
        })
        return { [openingCase('full fine-tuning, loaded anew')]: ms }
      },
      async teardown({ full }) {
        await full?.model.dispose()
      },
    },
  ],

  async close({ loader }) {
    await loader.dispose()
  },
}
