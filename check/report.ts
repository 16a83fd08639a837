/**
 * What a check found, as a text that can be pasted into an issue.
 *
 * @module
 */
import type { DemoFigures } from './demo.ts'
import type { GpuFacts } from './kernels.ts'
import { listOf, type ModelFigures, timeOf } from './models.ts'

export interface Findings {
  facts?: GpuFacts
  /** What differed, by kernel; an empty list where nothing did. */
  kernels: Record<string, readonly string[]>
  /** Random cases of each kernel. */
  cases: number
  /** MB that the list of a model may take. */
  vram: number
  models: ModelFigures[]
  demo?: DemoFigures
  /** What could not be run, and why. */
  errors: string[]
  isStopped: boolean
}

/** In Markdown. */
export function reportOf({ facts, kernels, cases, vram, models, demo, errors, isStopped }: Findings): string {
  const names = Object.keys(kernels)
  const wrong = names.filter((name) => kernels[name].length > 0)
  const lines = ['### tritswap on this GPU', '']
  if (facts !== undefined) {
    const { adapter, features, limits } = facts
    const name = adapter.description || adapter.device
    lines.push(
      `- adapter: ${[adapter.vendor, adapter.architecture, name].filter(Boolean).join(', ') || 'not told'} (${adapter.software ? 'software' : 'hardware'})`,
      `- features: ${features.join(', ')}`,
      ...Object.entries(limits).map(([key, value]) => `- ${key}: ${value}`),
    )
  }
  lines.push(`- browser: ${navigator.userAgent}`)
  if (names.length > 0) {
    lines.push(
      `- kernels: ${names.length - wrong.length} of ${names.length} match their references, on ${cases} random cases each`,
      ...wrong.map((name) => `  - ${name} does not: ${kernels[name][0]}`),
    )
  }
  for (const model of models) {
    const switches = model.cases.map(
      (one) =>
        `${one.switch} ${ms(timeOf(one))} (${one.dispatches} dispatches, ${ms(one.encodeMs)} to encode)`,
    )
    lines.push(
      `- ${model.name} in at most ${vram} MB: ${listOf(model)}; ${switches.join(', ')}; the base again, bit for bit`,
    )
  }
  if (demo !== undefined) {
    const { switches, tokensPerSecond } = demo
    lines.push(
      `- demo base loaded in ${demo.loadMs.toFixed(0)} ms, ${(demo.vram / 1e6).toFixed(1)} MB of VRAM`,
      `- switch, median of ${demo.rounds}: apply ${ms(switches.apply)}, change ${ms(switches.change)}, revert ${ms(switches.revert)}`,
      `- tokens a second: base ${tokensPerSecond.base.toFixed(1)}, with an expert ${tokensPerSecond.expert.toFixed(1)}`,
      `- weights after all switches: ${demo.isRestored ? 'the base again, bit for bit' : 'NOT those of the base'}`,
    )
  }
  lines.push(...errors.map((error) => `- failed: ${error}`))
  if (isStopped) lines.push('- stopped before the end')
  return lines.join('\n')
}

function ms(value: number): string {
  return `${value.toFixed(2)} ms`
}
