/**
 * How an expert gets into VRAM: its targets are found under the names of this base, it is refused if it was made for
 * another, and only then its payload is uploaded, compressed as it came.
 *
 * @module
 */
import { isTritswapError } from '../errors.ts'
import { checkFinite } from '../format/finite.ts'
import type { TritHead, TritTable } from '../format/index.ts'
import { checkActsEverywhere } from '../format/invocation.ts'
import type { ExpertStore, ResidentExpert, Switcher, WeightStore } from '../gpu/index.ts'
import { type BaseIdentity, type BaseMatch, unusedTargets } from './base_check.ts'
import type { Circumstances, WeighedBinding } from './binding_costs.ts'
import { type BindingChoice, bindExpert, type ExpertBinding, weighBinding } from './expert_bindings.ts'
import type { ExpertRuntime } from './expert_runtime.ts'
import { fitExpert, readSketches } from './fitted_expert.ts'
import type { LayerGroups } from './layer_groups.ts'
import type { SiteIndex } from './site_index.ts'

/** Verified pieces of a payload, in any order. */
export type PayloadPieces = AsyncIterable<{ offset: number; bytes: Uint8Array<ArrayBuffer> }>

export interface AdmissionParts {
  weights: Pick<WeightStore, 'knows' | 'sketchValues' | 'floatPlacementsOf' | 'isQuantized' | 'copyBytesOf'>
  experts: Pick<ExpertStore, 'begin'>
  switcher: Pick<Switcher, 'check' | 'prepare'>
  runtime: ExpertRuntime
  base: BaseIdentity
  sites: SiteIndex
  layers: LayerGroups
  /** What `auto` goes by. */
  costs: Pick<Circumstances, 'software' | 'copyBudget'>
  /** Passes are not ours to divide, so that an expert that acts on a part of a prompt alone is refused. */
  ownPasses?: boolean
}

export class ExpertAdmission {
  readonly #parts: AdmissionParts

  constructor(parts: AdmissionParts) {
    this.#parts = parts
  }

  /** Of the base. */
  get layers(): LayerGroups {
    return this.#parts.layers
  }

  /**
   * Brings an expert into VRAM.
   * @throws {TritswapError} `mapping`, `base`, `memory`, `format`, `unsupported` where it cannot be bound as wanted;
   * nothing is left behind
   */
  async load(
    head: TritHead,
    name: string,
    pieces: PayloadPieces,
    choice: BindingChoice,
  ): Promise<{ resident: ResidentExpert; baseMatch: BaseMatch }> {
    const { weights, experts, switcher, sites, runtime, base, ownPasses } = this.#parts
    if (ownPasses) checkActsEverywhere(head.table, name, 'attach')
    const { table, baseMatch } = await fitExpert(
      head.table,
      name,
      base,
      (tensors, seeds) => runtime.onBase(() => readSketches(weights, tensors, seeds)),
      sites,
    )
    const { merged } = this.bind(table, choice)
    switcher.check(table, merged)
    // Beside the upload. A switch compiles what is missing, and says why it cannot.
    const compiled = switcher.prepare(table, merged).catch(() => {})
    const begin = () => experts.begin({ ...head, table })
    const upload = await begin().catch(async (error: unknown) => {
      if (!isTritswapError(error, 'memory')) throw error
      await runtime.settle()
      return begin()
    })
    try {
      for await (const { offset, bytes } of pieces) {
        checkFinite(table, offset, bytes, name)
        upload.write(offset, bytes)
      }
      const resident = await upload.finish()
      await compiled
      return { resident, baseMatch }
    } finally {
      upload.cancel()
    }
  }

  /** @throws {TritswapError} as {@link bindExpert} */
  bind(table: TritTable, choice: BindingChoice): ExpertBinding {
    const { weights, sites, base } = this.#parts
    return bindExpert(table, choice, weights, sites, unusedTargets(table, base))
  }

  /**
   * What `auto` comes to now, and why; undefined where there is nothing to choose.
   * @param before - what it came to the last time
   */
  weigh(table: TritTable, before?: WeighedBinding['binding']): WeighedBinding | undefined {
    const { weights, sites, base, runtime, costs } = this.#parts
    const { passesPerSwitch } = runtime
    const copyBytesOf = (target: string) => weights.copyBytesOf(target)
    const circumstances = { ...costs, passesPerSwitch, copyBytesOf }
    return weighBinding(table, weights, sites, circumstances, before, unusedTargets(table, base))
  }
}
