/**
 * How an expert gets into VRAM: its targets are found under the names of this base, it is refused if it was made for
 * another, and only then its payload is uploaded, compressed as it came.
 *
 * @module
 */
import { isTritswapError } from '../errors.ts'
import { checkFinite } from '../format/finite.ts'
import { SKETCH_VALUES, type TritHead, type TritTable } from '../format/index.ts'
import type { ExpertStore, ResidentExpert, Switcher, WeightStore } from '../gpu/index.ts'
import { type BaseIdentity, type BaseMatch, checkBase, unusedTargets } from './base_check.ts'
import { type BindingChoice, bindExpert, type ExpertBinding } from './expert_bindings.ts'
import type { ExpertRuntime } from './expert_runtime.ts'
import type { SiteIndex } from './site_index.ts'
import { renameTargets } from './target_names.ts'

/** Verified pieces of a payload, in any order. */
export type PayloadPieces = AsyncIterable<{ offset: number; bytes: Uint8Array<ArrayBuffer> }>

export interface AdmissionParts {
  weights: Pick<WeightStore, 'knows' | 'sketchValues' | 'floatPlacementsOf' | 'isQuantized'>
  experts: Pick<ExpertStore, 'begin'>
  switcher: Pick<Switcher, 'check'>
  runtime: ExpertRuntime
  base: BaseIdentity
  sites: SiteIndex
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
    const { experts, switcher, sites, runtime } = this.#parts
    const { renamed, base } = await renameTargets(
      head.table,
      this.#parts.base,
      (tensors, seeds) => this.#sketchOfBase(tensors, seeds),
      (target) => sites.sharedBy(target),
    )
    const baseMatch = checkBase(head.table, name, base)
    const tensors = head.table.tensors.map((tensor) => ({
      ...tensor,
      target: renamed.get(tensor.target) ?? tensor.target,
    }))
    const table = { ...head.table, tensors }
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

  /** Sketch values of the base itself, whatever is active. */
  #sketchOfBase(tensors: readonly string[], seeds: readonly string[]): Promise<Float32Array> {
    const { weights, runtime } = this.#parts
    return runtime.onBase(async () => {
      // Weights that stay integers in their graph cannot be read here: of those, only what came with the graph is known.
      const seen = tensors.flatMap((name, i) => (weights.knows(name) ? [i] : []))
      const read = await weights.sketchValues(
        seen.map((i) => tensors[i]),
        seen.map((i) => seeds[i]),
      )
      const values = new Float32Array(tensors.length * SKETCH_VALUES).fill(Number.NaN)
      for (const [at, i] of seen.entries())
        values.set(read.subarray(at * SKETCH_VALUES, (at + 1) * SKETCH_VALUES), i * SKETCH_VALUES)
      return values
    })
  }
}
