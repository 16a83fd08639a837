/**
 * The page that the benchmark measures in: the library as it is built for production, and the alternatives.
 *
 * @module
 */
import { requestGpu } from '../../../src/gpu/index.ts'
import type { GroupResult, PageConfig } from '../protocol.ts'
import { caseNames, type Group, runGroup } from './bench.ts'
import { bindings } from './bindings.ts'
import { loading } from './loading.ts'
import { merging } from './merging.ts'
import { opening } from './opening.ts'
import { reloading } from './reloading.ts'
import { scaling } from './scaling.ts'
import { switching } from './switching.ts'
import { tokens } from './tokens.ts'

const GROUPS = [
  loading,
  switching,
  merging,
  reloading,
  tokens,
  scaling,
  bindings,
  opening,
] as unknown as Group<unknown>[]

const groupOf = (name: string) => {
  const group = GROUPS.find((candidate) => candidate.name === name)
  if (group === undefined) throw new Error(`there is no group ${name}`)
  return group
}

const benchmark = {
  /** Cases by group. */
  names: (config: PageConfig): Record<string, string[]> =>
    Object.fromEntries(GROUPS.map((group) => [group.name, caseNames(group, config)])),

  run: (name: string, config: PageConfig, runs: number, wanted: string[]): Promise<GroupResult> =>
    runGroup(groupOf(name), config, runs, new Set(wanted), (stage, bench) =>
      globalThis.onBenchProgress?.(stage, bench),
    ),

  async adapter() {
    const { adapter, features, device } = await requestGpu()
    device.destroy()
    return { ...adapter, features }
  },
}

declare global {
  interface Window {
    benchmark: typeof benchmark
  }
  /** Exposed by the runner. */
  var onBenchProgress: ((stage: string, bench: string) => void) | undefined
}

window.benchmark = benchmark
