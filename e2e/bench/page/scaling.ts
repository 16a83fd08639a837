import type { ResidentExpert } from '../../../src/gpu/index.ts'
import { ExpertStore, type Gpu, requestGpu, Switcher, type WeightStore } from '../../../src/gpu/index.ts'
import { densityCase, residentCase, sizeCase } from '../names.ts'
import type { PageConfig } from '../protocol.ts'
import type { Bench, Group } from './bench.ts'
import { syntheticBase, syntheticExpert } from './synthetic.ts'

/** A synthetic base with its own experts. */
interface Store {
  weights: WeightStore
  experts: ExpertStore
  switcher: Switcher
  resident: ResidentExpert[]
}

interface ScalingState {
  gpu: Gpu
  stores: Map<string, Store>
}

const DENSITY = 0.05
/** Weights of the base on which experts pile up. */
const PILE_WEIGHTS = 2 ** 22
/**
 * Switches on and off of one sample there. The fastest counts: other work on the machine only adds, and a difference of
 * 10 % has to show.
 */
const REPEATS = 9

async function openStore(
  gpu: Gpu,
  weights: WeightStore,
  files: { weights: number; density: number }[],
): Promise<Store> {
  const experts = await ExpertStore.create({ gpu, budgetBytes: 2 ** 30 })
  const switcher = await Switcher.create({ gpu, weights, experts })
  const resident = []
  for (const [seed, file] of files.entries())
    resident.push(await syntheticExpert(experts, file.weights, file.density, seed))
  return { weights, experts, switcher, resident }
}

function closeStore({ switcher, experts, weights }: Store, sharesWeights = false): void {
  switcher.destroy()
  experts.destroy()
  if (!sharesWeights) weights.destroy()
}

const sized = (weights: number): Bench<ScalingState> => ({
  cases: [sizeCase(weights)],
  unit: 'ms',
  async setup({ gpu, stores }) {
    const files = [
      { weights, density: DENSITY },
      { weights, density: DENSITY },
    ]
    stores.set(sizeCase(weights), await openStore(gpu, await syntheticBase(gpu, weights), files))
  },
  async before({ stores }) {
    const { switcher, resident } = stores.get(sizeCase(weights))!
    await switcher.measure([{ expert: resident[0], weight: 1 }])
  },
  async bench({ stores }) {
    const { switcher, resident } = stores.get(sizeCase(weights))!
    const { totalMs } = await switcher.measure([{ expert: resident[1], weight: 1 }])
    return { [sizeCase(weights)]: totalMs }
  },
  teardown: ({ stores }) => closeStore(stores.get(sizeCase(weights))!),
})

const dense = (config: PageConfig): Bench<ScalingState> => {
  const { densities, densityWeights } = config
  return {
    cases: densities.map((density) => densityCase(density, densityWeights)),
    unit: 'ms',
    async setup({ gpu, stores }) {
      const files = densities.map((density) => ({ weights: densityWeights, density }))
      stores.set('densities', await openStore(gpu, await syntheticBase(gpu, densityWeights), files))
    },
    async bench({ stores }) {
      const { switcher, resident } = stores.get('densities')!
      const samples: Record<string, number> = {}
      for (const [i, expert] of resident.entries()) {
        samples[densityCase(densities[i], densityWeights)] = (
          await switcher.measure([{ expert, weight: 1 }])
        ).totalMs
        await switcher.measure([])
      }
      return samples
    },
    teardown: ({ stores }) => closeStore(stores.get('densities')!),
  }
}

const piled = (counts: readonly number[]): Bench<ScalingState> => ({
  cases: counts.map(residentCase),
  unit: 'ms',
  async setup({ gpu, stores }) {
    // One base under all: what differs is how many experts lie beside it.
    const weights = await syntheticBase(gpu, PILE_WEIGHTS)
    for (const count of counts) {
      const files = Array.from({ length: count }, () => ({ weights: PILE_WEIGHTS, density: DENSITY }))
      stores.set(residentCase(count), await openStore(gpu, weights, files))
    }
  },
  async bench({ stores }) {
    const times = new Map(counts.map((count) => [count, [] as number[]]))
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      // So that no case always comes first, or always after the same other one.
      const order = repeat % 2 === 0 ? counts : [...counts].reverse()
      for (const i of order.keys()) {
        const count = order[(i + repeat) % order.length]
        const { switcher, resident } = stores.get(residentCase(count))!
        const on = await switcher.measure([{ expert: resident[(repeat * 7) % count], weight: 1 }])
        const off = await switcher.measure([])
        times.get(count)!.push(on.totalMs + off.totalMs)
      }
    }
    return Object.fromEntries(Array.from(times, ([count, ms]) => [residentCase(count), Math.min(...ms)]))
  },
  teardown({ stores }) {
    for (const [i, count] of counts.entries()) closeStore(stores.get(residentCase(count))!, i > 0)
  },
})

/** How the cost of a switch grows, on the GPU engine alone. */
export const scaling: Group<ScalingState> = {
  name: 'scaling',
  open: async () => ({ gpu: await requestGpu(), stores: new Map() }),
  benches: (config) => [...config.sizes.map(sized), dense(config), piled(config.residents)],
  async close({ gpu }) {
    gpu.device.destroy()
  },
}
