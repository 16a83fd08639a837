import type { Expert, ExpertLoader, SwitchReport } from '../../../src/loader/index.ts'
import type { BenchExpert, GroupResult, PageConfig } from '../protocol.ts'
import { type Bench, type Group, timed } from './bench.ts'
import { openLoader, takeFresh } from './loading.ts'

interface SwitchingState {
  config: PageConfig
  loader: ExpertLoader
  experts: Expert[]
  fresh: BenchExpert[]
}

const SWITCH = 'resident switch A → B'
const LOADED_MEANWHILE = 6

/**
 * To the end of the GPU's work: from the page's call until the page is told, in the engine worker, and there the switcher and the
 * GPU alone.
 */
const phases = (name: string, wall: number, { phases: { apply }, total }: SwitchReport) => ({
  [name]: wall,
  [`${name}: in the engine`]: total,
  [`${name}: apply`]: apply,
})
const phaseNames = (name: string) => [name, `${name}: in the engine`, `${name}: apply`]

/** A bench of one change of the active set. */
function change(
  name: string,
  from: (experts: Expert[]) => { expert: Expert; weight: number }[],
  to: (experts: Expert[]) => { expert: Expert; weight: number }[],
): Bench<SwitchingState> {
  return {
    cases: phaseNames(name),
    unit: 'ms',
    share: 3,
    before: async ({ loader, experts }) => {
      await loader.activate(from(experts))
    },
    async bench({ loader, experts }) {
      const start = performance.now()
      const report = await loader.activate(to(experts), { timed: true })
      return phases(name, performance.now() - start, report)
    },
  }
}

const weighted = (...weights: number[]) => {
  return (experts: Expert[]) => weights.map((weight, i) => ({ expert: experts[i], weight }))
}
const onlyB = (experts: Expert[]) => [{ expert: experts[1], weight: 1 }]

/** Switches of the page's own loader between experts that are in VRAM. */
export const switching: Group<SwitchingState> = {
  name: 'switching',

  async open(config) {
    const loader = await openLoader(config)
    const experts = []
    for (const { id, url, rootHash } of config.experts.slice(0, 4))
      experts.push(await loader.load({ source: `${config.fast}${url}`, id, rootHash }))
    return { config, loader, experts, fresh: [...config.copies] }
  },

  benches: ({ experts, prompt, newTokens }) => [
    change(SWITCH, weighted(1), onlyB),
    change('base → A', weighted(), weighted(1)),
    change('back to the base', weighted(1), weighted()),
    change('weight of A from 1 to 0.5', weighted(1), weighted(0.5)),
    change('base → blend of 2', weighted(), weighted(0.5, 0.5)),
    change('weights of a blend of 2', weighted(0.5, 0.5), weighted(0.7, 0.3)),
    ...(experts.length >= 4
      ? [change('base → blend of 4', weighted(), weighted(0.25, 0.25, 0.25, 0.25))]
      : []),
    {
      cases: ['switch to the first token'],
      unit: 'ms',
      share: 0.7,
      before: async ({ loader, experts: [a] }) => {
        await loader.activate(a)
      },
      bench: async ({ loader, experts: [, b] }) => ({
        'switch to the first token': await timed(async () => {
          await loader.activate(b)
          await drain(loader.generate(prompt, { maxNewTokens: 1 }))
        }),
      }),
    },
    {
      cases: ['tokens/s in the engine worker'],
      unit: 'tokens/s',
      share: 0.7,
      before: async ({ loader }) => {
        await loader.deactivate()
      },
      bench: async ({ loader }) => ({
        'tokens/s in the engine worker': tokensPerSecond(
          await drain(loader.generate(prompt, { maxNewTokens: newTokens + 1 })),
        ),
      }),
    },
  ],

  facts: ({ prompt, newTokens, residents }) => [
    {
      cases: [
        'long tasks of the page, generating',
        'long tasks of the page, generating and fetching experts',
        'longest task of the page, generating and fetching experts, ms',
      ],
      unit: 'count',
      async look({ loader, config, fresh, experts: [a, b] }) {
        const generate = () => drain(loader.generate(prompt, { maxNewTokens: 2 * newTokens }))
        const alone = await longTasks(generate)
        const loads = async () => {
          for (let i = 0; i < LOADED_MEANWHILE; i++) {
            const { url, rootHash } = takeFresh(fresh)
            const expert = await loader.load({ source: `${config.fast}${url}`, rootHash })
            await loader.activate(i % 2 === 0 ? a : b)
            await expert.release()
          }
          await loader.deactivate()
        }
        const together = await longTasks(() => Promise.all([generate(), loads()]))
        return {
          'long tasks of the page, generating': alone.length,
          'long tasks of the page, generating and fetching experts': together.length,
          'longest task of the page, generating and fetching experts, ms': Math.max(0, ...together),
        }
      },
    },
    {
      cases: [
        'VRAM: base',
        'VRAM: journal of one active expert',
        ...residents.map((count) => `VRAM: ${count} resident`),
      ],
      unit: 'bytes',
      async look({ config }) {
        const loader = await openLoader(config)
        const { id, url, rootHash } = config.experts[0]
        const first = await loader.load({ source: `${config.fast}${url}`, id, rootHash })
        await loader.activate(first)
        const { vram } = await loader.stats()
        const found: Record<string, number> = {
          'VRAM: base': vram.base,
          'VRAM: journal of one active expert': vram.journal,
        }
        let resident = 1
        for (const count of residents) {
          for (; resident < count; resident++) {
            const copy = config.copies[resident]
            await loader.load({ source: `${config.fast}${copy.url}`, rootHash: copy.rootHash })
          }
          found[`VRAM: ${count} resident`] = (await loader.stats()).vram.experts
        }
        await loader.dispose()
        return found
      },
    },
    {
      cases: ['JS heap: page', 'JS heap: workers'],
      unit: 'bytes',
      look: async (_, notes) => memory(notes),
    },
    {
      cases: ['base after all switches: same checksum (1 = yes)'],
      unit: 'count',
      async look({ config, loader }, notes) {
        await loader.deactivate()
        const after = await loader.checksum()
        const untouched = await openLoader(config)
        const exact = (await untouched.checksum()) === after
        await untouched.dispose()
        notes['.trit: going back is exact'] = exact
        return { 'base after all switches: same checksum (1 = yes)': exact ? 1 : 0 }
      },
    },
  ],

  async close({ loader }) {
    await loader.dispose()
  },
}

/** When each token of a stream came, ms. */
async function drain(stream: AsyncIterable<unknown>): Promise<number[]> {
  const times = []
  for await (const _ of stream) times.push(performance.now())
  return times
}

/** Of what came after the first token: reading the prompt is another matter. */
export function tokensPerSecond(times: readonly number[]): number {
  return (1000 * (times.length - 1)) / (times.at(-1)! - times[0])
}

/** Durations of the main thread's tasks of 50 ms or more meanwhile. */
async function longTasks(task: () => Promise<unknown>): Promise<number[]> {
  const durations: number[] = []
  const note = (entries: PerformanceEntryList) => durations.push(...entries.map(({ duration }) => duration))
  const observer = new PerformanceObserver((list) => note(list.getEntries()))
  observer.observe({ type: 'longtask' })
  await task()
  note(observer.takeRecords())
  observer.disconnect()
  return durations
}

interface AgentMemory {
  breakdown: { bytes: number; attribution: { scope: string }[] }[]
}

/** Of all threads of the page, after a collection. */
async function memory(notes: GroupResult['notes']): Promise<Record<string, number>> {
  const { measureUserAgentSpecificMemory } = performance as Performance & {
    measureUserAgentSpecificMemory?: () => Promise<AgentMemory>
  }
  if (measureUserAgentSpecificMemory === undefined) {
    notes['JS heap'] = 'this browser does not tell'
    return {}
  }
  const { breakdown } = await measureUserAgentSpecificMemory.call(performance)
  const bytes = (isWorker: boolean) =>
    breakdown
      .filter(({ attribution }) => attribution.some(({ scope }) => /Worker/.test(scope)) === isWorker)
      .reduce((sum, entry) => sum + entry.bytes, 0)
  return { 'JS heap: page': bytes(false), 'JS heap: workers': bytes(true) }
}
