import { type Expert, ExpertLoader } from '../../../src/loader/index.ts'
import type { BenchExpert, PageConfig } from '../protocol.ts'
import { type Group, timed } from './bench.ts'

export interface LoadingState {
  config: PageConfig
  loader: ExpertLoader
  /** Files that no load has asked for yet. */
  fresh: BenchExpert[]
  warm: BenchExpert
}

/** Few experts fit, so that one which is loaded again comes from the cache and not from VRAM. */
const EXPERTS_IN_VRAM = 2.5

export function openLoader(config: PageConfig, expertBudget?: number): Promise<ExpertLoader> {
  return ExpertLoader.create({ model: config.model, expertBudget })
}

/** @throws {Error} when the runner made too few files */
export function takeFresh(fresh: BenchExpert[]): BenchExpert {
  const next = fresh.shift()
  if (next === undefined) throw new Error('there are no files left that nobody has asked for')
  return next
}

/** What it takes until an expert is in VRAM, ready to be switched to; beside a plain `fetch` of a file of that size. */
export const loading: Group<LoadingState> = {
  name: 'loading',

  async open(config) {
    const { residentBytes } = await sizeOf(config)
    const loader = await openLoader(config, Math.ceil(residentBytes * EXPERTS_IN_VRAM))
    const fresh = [...config.copies]
    const warm = takeFresh(fresh)
    await load(loader, config.fast, warm)
    return { config, loader, fresh, warm }
  },

  benches: () => [
    {
      cases: ['cold load of the base'],
      unit: 'ms',
      share: 0.4,
      async bench({ config, loader }) {
        await loader.cache.clear()
        const from = performance.now()
        const other = await openLoader(config)
        const ms = performance.now() - from
        await other.dispose()
        return { 'cold load of the base': ms }
      },
      // The cold load emptied the cache.
      teardown: ({ loader, config, warm }) => load(loader, config.fast, warm).then(() => {}),
    },
    {
      cases: ['warm load of the base'],
      unit: 'ms',
      share: 0.4,
      async before({ config }) {
        await (await openLoader(config)).dispose()
      },
      async bench({ config }) {
        const from = performance.now()
        const other = await openLoader(config)
        const ms = performance.now() - from
        await other.dispose()
        return { 'warm load of the base': ms }
      },
    },
    ...(['line', 'fast'] as const).flatMap((server) => {
      const at = server === 'line' ? '10 Mbit/s, 60 ms' : 'unthrottled'
      return [
        {
          cases: [`cold expert, ${at}`],
          unit: 'ms' as const,
          bench: async ({ loader, config, fresh }: LoadingState) => {
            const from = performance.now()
            await load(loader, config[server], takeFresh(fresh))
            return { [`cold expert, ${at}`]: performance.now() - from }
          },
        },
        {
          cases: [`plain fetch of the same file, ${at}`],
          unit: 'ms' as const,
          bench: async ({ config }: LoadingState) => ({
            [`plain fetch of the same file, ${at}`]: await timed(async () => {
              const response = await fetch(`${config[server]}${config.copies[0].url}`, { cache: 'no-store' })
              await response.arrayBuffer()
            }),
          }),
        },
      ]
    }),
    {
      cases: ['warm expert from the cache'],
      unit: 'ms',
      async before({ loader, config, warm, fresh }) {
        // Others take its place in VRAM; a cold load of the base may have emptied the cache.
        await load(loader, config.fast, warm)
        for (let i = 0; i < EXPERTS_IN_VRAM; i++) await load(loader, config.fast, takeFresh(fresh))
      },
      async bench({ loader, config, warm }) {
        const from = performance.now()
        const { timings } = await load(loader, config.fast, warm)
        const ms = performance.now() - from
        if (timings.cacheBytes === 0 || timings.networkBytes > 0)
          throw new Error(`the warm load took ${timings.networkBytes} bytes from the network`)
        return { 'warm expert from the cache': ms }
      },
    },
  ],

  facts: () => [
    {
      cases: ['requests of a cold expert', 'requests of a warm expert'],
      unit: 'count',
      async look({ loader, config, warm, fresh }) {
        const cold = await load(loader, config.line, takeFresh(fresh))
        for (let i = 0; i < EXPERTS_IN_VRAM; i++) await load(loader, config.fast, takeFresh(fresh))
        const again = await load(loader, config.fast, warm)
        return {
          'requests of a cold expert': cold.timings.requests,
          'requests of a warm expert': again.timings.requests,
        }
      },
    },
  ],

  async close({ loader }) {
    await loader.dispose()
  },
}

function load(loader: ExpertLoader, server: string, { id, url, rootHash }: BenchExpert): Promise<Expert> {
  return loader.load({ source: `${server}${url}`, id, rootHash })
}

/** VRAM that one of the copies takes. */
async function sizeOf(config: PageConfig): Promise<Expert> {
  const loader = await openLoader(config)
  const expert = await load(loader, config.fast, config.copies[0])
  await loader.cache.clear()
  await loader.dispose()
  return expert
}
