/**
 * The bundled base with two of its experts on this GPU: what a visitor of the demo gets, in numbers.
 *
 * @module
 */
import { type Expert, ExpertLoader, type FetchProgress, type SwitchReport } from '../src/loader/index.ts'
import type { Registry } from '../src/source/registry.ts'

export interface DemoFigures {
  loadMs: number
  /** Bytes of the base in VRAM. */
  vram: number
  /** Apply of the first expert, change to the second, and back to the base: the median of all rounds, in ms. */
  switches: { apply: number; change: number; revert: number }
  /** Rounds of those three. */
  rounds: number
  /** Tokens a second behind the first token. */
  tokensPerSecond: { base: number; expert: number }
  /** Whether the weights are the base's again, bit for bit, after all rounds. */
  isRestored: boolean
}

export interface DemoOptions {
  /** Folder of the page, absolute. */
  folder: string
  rounds: number
  tokens: number
  signal: AbortSignal
  onStep: (step: string) => void
}

/** @throws {TritswapError} as `ExpertLoader`; or the signal's reason */
export async function measureDemo({
  folder,
  rounds,
  tokens,
  signal,
  onStep,
}: DemoOptions): Promise<DemoFigures> {
  const at = (path: string) => new URL(path, folder).href
  const { experts } = (await (await fetch(at('experts/experts.json'), { signal })).json()) as Registry
  const started = performance.now()
  const onProgress = ({ progress }: FetchProgress) => {
    if (progress !== undefined) onStep(`loading the base, ${progress.toFixed(0)} %`)
  }
  const loader = await ExpertLoader.create({ model: at('models/demo'), signal, onProgress })
  try {
    const loadMs = performance.now() - started
    onStep('loading two experts')
    const load = ({ url, id, rootHash }: Registry['experts'][number]) =>
      loader.load({ source: at(`experts/${url}`), id, rootHash }, { signal })
    const [first, second] = await Promise.all(experts.slice(0, 2).map(load))
    const before = await loader.checksum()
    const writes = (choice: Expert | []) => {
      const options = { experts: choice, maxNewTokens: tokens, temperature: 0, signal }
      return loader.generate('Once upon a time', options).result
    }
    // Kernels are compiled by the first call of each kind.
    for (const choice of [first, second]) await loader.activate(choice, { signal })
    await loader.deactivate()
    await writes([])
    const found = { apply: [], change: [], revert: [] } as Record<keyof DemoFigures['switches'], number[]>
    for (let round = 1; round <= rounds; round++) {
      onStep(`switching, round ${round} of ${rounds}`)
      signal.throwIfAborted()
      found.apply.push(phase(await loader.activate(first)))
      found.change.push(phase(await loader.activate(second)))
      found.revert.push(phase(await loader.deactivate()))
    }
    onStep('writing as the base')
    const base = (await writes([])).usage.tokensPerSecond
    onStep('writing with an expert')
    await loader.activate(first, { signal })
    const expert = (await writes(first)).usage.tokensPerSecond
    await loader.deactivate()
    const { vram } = await loader.stats()
    return {
      loadMs,
      vram: vram.base,
      switches: {
        apply: median(found.apply),
        change: median(found.change),
        revert: median(found.revert),
      },
      rounds,
      tokensPerSecond: { base, expert },
      isRestored: (await loader.checksum()) === before,
    }
  } finally {
    await loader.dispose()
  }
}

function phase({ phases }: SwitchReport): number {
  return phases.apply
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1]
}
