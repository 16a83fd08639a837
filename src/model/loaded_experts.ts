/**
 * The experts of one base by the ids that their user gave them.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { receiveFile } from '../fetcher/receive.ts'
import { summaryOf } from '../format/codecs/index.ts'
import { type TritTable, weightsOf } from '../format/index.ts'
import type { ExpertStore, ResidentExpert } from '../gpu/index.ts'
import type { BaseMatch } from './base_check.ts'
import type { WeighedBinding } from './binding_costs.ts'
import { evictedError } from './evicted.ts'
import type { ExpertAdmission } from './expert_admission.ts'
import type { BindingChoice, ExpertBinding } from './expert_bindings.ts'
import type { ActiveExpert, ExpertInfo } from './expert_info.ts'
import type { ExpertRuntime, MeasuredTimes, Switched } from './expert_runtime.ts'
import type { ExpertSet } from './expert_set.ts'
import type { LayerFactors } from './layer_groups.ts'

/** An expert as its load left it; the thread that fetched it adds where its bytes came from. */
export type LoadedInfo = Omit<ExpertInfo, 'timings'> & { uploadMs: number }

interface LoadedExpert {
  id: string
  headBytes: number
  resident: ResidentExpert
  binding: BindingChoice
  baseMatch: BaseMatch
}

/** What an id stands for is replaced, not changed: an expert that was evicted is loaded again under its id. */
export class LoadedExperts {
  readonly #store: Pick<ExpertStore, 'find'>
  readonly #admission: Pick<ExpertAdmission, 'load' | 'bind' | 'weigh' | 'layers'>
  readonly #runtime: ExpertRuntime
  readonly #loaded = new Map<string, LoadedExpert>()
  readonly #named = new WeakMap<ExpertSet, readonly ActiveExpert[]>()
  readonly #bindings = new WeakMap<ResidentExpert, Map<BindingChoice, ExpertBinding>>()
  /** What `auto` came to the last time. */
  readonly #weighed = new WeakMap<ResidentExpert, WeighedBinding>()

  constructor(
    store: Pick<ExpertStore, 'find'>,
    admission: Pick<ExpertAdmission, 'load' | 'bind' | 'weigh' | 'layers'>,
    runtime: ExpertRuntime,
  ) {
    this.#store = store
    this.#admission = admission
    this.#runtime = runtime
  }

  /**
   * Takes an expert from a fetch worker into VRAM.
   * @param id - what it is called from now on
   * @param port - its file, as {@link receiveFile} reads it
   * @param binding - how it meets the base where an activation does not say
   * @param pinned - ids of experts that must not be evicted to make room for it
   * @throws {TritswapError} as {@link ExpertAdmission.load}
   */
  async load(
    id: string,
    label: string | undefined,
    port: MessagePort,
    signal: AbortSignal,
    binding: BindingChoice = 'auto',
    pinned: readonly string[] = [],
  ): Promise<LoadedInfo> {
    const held = pinned.flatMap((other) => {
      const resident = this.#loaded.get(other)?.resident
      return resident === undefined || resident.evicted ? [] : [resident.retain()]
    })
    try {
      const { head, name, chunks, cancel } = await receiveFile(port, signal)
      let uploadMs = 0
      // Time spent on chunks, not waiting for the next one.
      async function* timed() {
        for await (const chunk of chunks) {
          const start = performance.now()
          yield chunk
          uploadMs += performance.now() - start
        }
      }
      try {
        const { resident, baseMatch } = await this.#admission.load(head, label ?? name, timed(), binding)
        // The store keeps it until its space is needed; sets hold what is active.
        resident.release()
        const loaded = { id, headBytes: head.headBytes, resident, binding, baseMatch }
        await this.#prepare(resident, binding)
        this.#loaded.set(id, loaded)
        return { ...describe(label, loaded), uploadMs }
      } finally {
        cancel()
      }
    } finally {
      for (const resident of held) resident.release()
    }
  }

  /** Takes an expert that is in VRAM under another id already; undefined if there is none. */
  adopt(
    id: string,
    label: string | undefined,
    rootHash: string,
    binding: BindingChoice = 'auto',
  ): LoadedInfo | undefined {
    const resident = this.#store.find(rootHash)
    const twin = [...this.#loaded.values()].find((loaded) => loaded.resident === resident)
    if (resident === undefined || twin === undefined) return undefined
    void this.#prepare(resident, binding)
    const loaded = { ...twin, id, resident, binding }
    this.#loaded.set(id, loaded)
    return { ...describe(label, loaded), uploadMs: 0 }
  }

  /** Forgets an expert; its VRAM is free for others once no set holds it. */
  unload(id: string): void {
    this.#loaded.delete(id)
  }

  /**
   * Makes a set the one that calls without experts of their own use; an empty set is the base.
   * @throws {TritswapError} as {@link set}; and as {@link ExpertRuntime.activate}
   */
  async activate(active: readonly ActiveExpert[], timed = false, signal?: AbortSignal): Promise<Switched> {
    return this.#runtime.activate(this.set(active), { signal, timed })
  }

  /** @see ExpertRuntime.measured */
  measured(set: number): Promise<MeasuredTimes | undefined> {
    return this.#runtime.measured(set)
  }

  /**
   * @throws {TritswapError} `released` with `fields.evicted` if experts have to be loaded again first; `input` for groups of
   * layers that the base does not have
   */
  set(active: readonly ActiveExpert[]): ExpertSet {
    const loaded = active.map(({ expert }) => {
      const found = this.#loaded.get(expert)
      if (!found)
        throw new TritswapError('released', `Cannot activate ${expert}: it was released, or never loaded`)
      return found
    })
    const evicted = loaded.filter(({ resident }) => resident.evicted).map(({ id }) => id)
    if (evicted.length > 0) throw evictedError(evicted)
    const set = this.#runtime.set(
      loaded.map(({ resident, binding }, i) => ({
        expert: resident,
        weight: active[i].weight,
        groups: this.#layerFactors(active[i]),
        binding: this.#bindingOf(resident, active[i].binding ?? binding),
      })),
    )
    this.#named.set(set, active)
    return set
  }

  #layerFactors({ groups: factors }: ActiveExpert): LayerFactors | undefined {
    if (factors === undefined) return undefined
    const { layers } = this.#admission
    layers.check(factors)
    return { factors, layers }
  }

  /** The experts of a set, by id. */
  namesOf(set: ExpertSet): readonly ActiveExpert[] {
    const { whole, experts } = set
    if (whole === undefined) return this.#named.get(set) ?? []
    return this.namesOf(whole).filter((_, i) => experts.includes(whole.experts[i]))
  }

  /** Makes ready what a switch would wait for. Where that fails, the switch tries again and says why. */
  async #prepare(resident: ResidentExpert, choice: BindingChoice): Promise<void> {
    const binding = this.#bindingOf(resident, choice)
    await this.#runtime.prepare({ expert: resident, weight: 1, binding }).catch(() => {})
  }

  /** What decided how an expert meets the base, where that was left to `auto`. */
  whyOf(resident: ResidentExpert, { expert, binding }: ActiveExpert): string | undefined {
    const choice = binding ?? this.#loaded.get(expert)?.binding
    return choice === 'auto' ? this.#weighed.get(resident)?.why : undefined
  }

  #bindingOf(resident: ResidentExpert, choice: BindingChoice): ExpertBinding {
    const known = this.#bindings.get(resident) ?? new Map<BindingChoice, ExpertBinding>()
    this.#bindings.set(resident, known)
    const found = choice === 'auto' ? this.#weigh(resident) : choice
    const binding = known.get(found) ?? this.#admission.bind(resident.table, found)
    known.set(found, binding)
    return binding
  }

  /** `input` where that costs less now; else the rest of `auto` stands. */
  #weigh(resident: ResidentExpert): BindingChoice {
    const weighed = this.#admission.weigh(resident.table, this.#weighed.get(resident)?.binding)
    if (weighed !== undefined) this.#weighed.set(resident, weighed)
    return weighed?.binding === 'input' ? 'input' : 'auto'
  }
}

/** Weights in a list of tensors. */
export function countWeights(tensors: readonly { shape: readonly number[] }[]): number {
  return tensors.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
}

function describe(
  label: string | undefined,
  { id, headBytes, resident, baseMatch }: LoadedExpert,
): Omit<ExpertInfo, 'timings'> {
  const { table, rootHash, bytes } = resident
  const { tensors, compression } = table
  return {
    id,
    label: label ?? table.label ?? id,
    description: table.description,
    prompt: table.prompt,
    system: table.system,
    generation: table.generation,
    licence: table.licence,
    method: table.method,
    invocation: table.invocation,
    bytes: headBytes + tensors.reduce((sum, tensor) => sum + tensor.bytes, 0),
    rootHash,
    weights: countWeights(tensors),
    kept: keptWeights(table),
    density: compression.density,
    alpha: compression.alpha,
    residentBytes: bytes,
    baseMatch,
  }
}

function keptWeights({ tensors }: TritTable): number {
  return tensors.reduce((sum, tensor) => sum + summaryOf(tensor).kept, 0)
}
