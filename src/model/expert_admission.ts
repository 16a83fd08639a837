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
import { type BindingChoice, bindExpert, type ExpertBinding } from './expert_bindings.ts'
import type { ExpertRuntime } from './expert_runtime.ts'
import { fitExpert, readSketches } from './fitted_expert.ts'
import type { SiteIndex } from './site_index.ts'

/** Verified pieces of a payload, in any order. */
export type PayloadPieces = AsyncIterable<{ offset: number; bytes: Uint8Array<ArrayBuffer> }>

export interface AdmissionParts {
  weights: Pick<WeightStore, 'knows' | 'sketchValues' | 'floatPlacementsOf' | 'isQuantized'>
  experts: Pick<ExpertStore, 'begin'>
  switcher: Pick<Switcher, 'check'>
  runtime: ExpertRuntime
  base: BaseIdentity
  sites: SiteIndex
  /** Passes are not ours to divide, so that an expert that acts on a part of a prompt alone is refused. */
  ownPasses?: boolean
}

export class ExpertAdmission {
  readonly #parts: AdmissionParts

  constructor(parts: AdmissionParts) {
    this.#parts = parts
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
    switcher.check(table, this.bind(table, choice).merged)
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
      return { resident: await upload.finish(), baseMatch }
    } finally {
      upload.cancel()
    }
  }

  /** @throws {TritswapError} as {@link bindExpert} */
  bind(table: TritTable, choice: BindingChoice): ExpertBinding {
    const { weights, sites, base } = this.#parts
    return bindExpert(table, choice, weights, sites, unusedTargets(table, base))
  }
}
