/**
 * A base in VRAM with its experts, by the names that their user gave them: what the engine worker and
 * `attachExperts` have in common.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import {
  type BaseBindings,
  sha256,
  type TritHead,
  type TritTable,
  ternaryDecodeCalls,
  toHex,
  type WeightDtype,
} from '../format/index.ts'
import {
  ExpertStore,
  type Gpu,
  type ResidentExpert,
  Switcher,
  Unpacker,
  type WeightStore,
} from '../gpu/index.ts'
import { type IntegerSite, integersOf, unusedIn } from '../onnx/index.ts'
import type { BaseIdentity } from './base_check.ts'
import { BypassBuffers } from './bypass_buffers.ts'
import { createLike, type ReadyGraph } from './create_session.ts'
import type { BindingChoice, ExpertBinding } from './expert_bindings.ts'
import type { ActiveExpert, BoundExpert, EngineStats, ExpertInfo, SwitchReport } from './expert_info.ts'
import {
  countWeights,
  ExpertRuntime,
  type ExpertSet,
  identify,
  type PayloadPieces,
} from './expert_runtime.ts'
import type { VariantSource } from './graph_variants.ts'

/** A base whose weights are in VRAM, and no expert has touched them yet. */
export interface FilledBase {
  gpu: Gpu
  weights: WeightStore
  table: TritTable
  bindings: BaseBindings
  /** Of weights that come from coarser ones than VRAM has: how far they may be from those of their checkpoint. */
  precision?: WeightDtype
}

/** An expert as its load left it; who fetched it adds where its bytes came from. */
export type LoadedInfo = Omit<ExpertInfo, 'timings'> & { uploadMs: number }

interface LoadedExpert {
  id: string
  headBytes: number
  resident: ResidentExpert
  binding: BindingChoice
  /** Load phases in ms, until a switch has reported them. */
  unreported?: { fetch: number; verify: number; upload: number }
}

export class ExpertHost {
  readonly runtime: ExpertRuntime
  /** Type of the weights in VRAM. */
  readonly dtype: 'f32' | 'f16'
  /** Weights in our own buffers; a tied tensor counts once. */
  readonly weightCount: number
  readonly gpu: Gpu
  readonly #weights: WeightStore
  readonly #experts: ExpertStore
  readonly #switcher: Switcher
  readonly #beside: BypassBuffers
  readonly #loaded = new Map<string, LoadedExpert>()
  /** Sets by the ids of their experts. */
  readonly #named = new WeakMap<ExpertSet, readonly ActiveExpert[]>()
  readonly #bindings = new WeakMap<ResidentExpert, Map<BindingChoice, ExpertBinding>>()
  #lastSwitch: SwitchReport | undefined

  /**
   * @param options.expertBudget - VRAM for compressed experts, in bytes; as much again may hold unpacked ones
   * @param options.graphs - by the names of their sessions: what experts can be put beside
   * @param options.sessionOptions - added to what sessions are created with
   * @throws {TritswapError} `memory`; the weights are the caller's to destroy then
   */
  static async create(
    { gpu, weights, table, bindings, precision }: FilledBase,
    options: {
      name: string
      fingerprint?: string
      expertBudget: number
      graphs?: Readonly<Record<string, ReadyGraph>>
      sessionOptions?: Readonly<Record<string, unknown>>
    },
  ): Promise<ExpertHost> {
    const experts = await ExpertStore.create({ gpu, budgetBytes: options.expertBudget })
    const switcher = await Switcher.create({ gpu, weights, experts })
    const dtype = vramDtype(bindings)
    const fingerprint = table.base.fingerprint ?? options.fingerprint
    const integers = Object.values(options.graphs ?? {}).flatMap((graph) => integersOf(graph))
    const identity = {
      name: options.name,
      fingerprint,
      dtype: precision ?? (integers.length > 0 ? 'q8' : dtype),
      isUnused: unusedIn(Object.values(options.graphs ?? {})),
    }
    const base = withIntegers(await identify(weights, identity, table.tensors), integers)
    const beside = new BypassBuffers(await Unpacker.create({ gpu, experts }), options.expertBudget)
    const tensors = new Map(table.tensors.map((tensor) => [tensor.name, tensor]))
    const graphs = Object.entries(options.graphs ?? {}).map(
      ([name, { file, bytes, externalFiles, external }]): [string, VariantSource] => {
        const inputs = bindings.graphs.find((graph) => graph.file === file)?.inputs ?? []
        const create: VariantSource['create'] = (like, variant) =>
          createLike(like, { bytes: variant, externalFiles, external }, gpu, options.sessionOptions)
        return [name, { graph: { file, bytes, inputs, tensors }, create }]
      },
    )
    const runtime = new ExpertRuntime({
      weights,
      experts,
      switcher,
      base,
      beside: { buffers: beside, graphs: new Map(graphs) },
    })
    return new ExpertHost(
      gpu,
      weights,
      experts,
      switcher,
      beside,
      runtime,
      dtype,
      countWeights(table.tensors),
    )
  }

  private constructor(
    gpu: Gpu,
    weights: WeightStore,
    experts: ExpertStore,
    switcher: Switcher,
    beside: BypassBuffers,
    runtime: ExpertRuntime,
    dtype: 'f32' | 'f16',
    weightCount: number,
  ) {
    this.gpu = gpu
    this.#weights = weights
    this.#experts = experts
    this.#switcher = switcher
    this.#beside = beside
    this.runtime = runtime
    this.dtype = dtype
    this.weightCount = weightCount
  }

  /**
   * Takes an expert into VRAM.
   * @param id - what it is called from now on
   * @param binding - how it meets the base where an activation does not say
   * @throws {TritswapError} as {@link ExpertRuntime.load}
   */
  async load(
    id: string,
    label: string | undefined,
    file: { head: TritHead; name: string; chunks: PayloadPieces },
    binding: BindingChoice = 'auto',
  ): Promise<LoadedInfo> {
    let uploadMs = 0
    // Time in our hands, not time spent waiting for the next chunk.
    async function* timed() {
      for await (const chunk of file.chunks) {
        const start = performance.now()
        yield chunk
        uploadMs += performance.now() - start
      }
    }
    const resident = await this.runtime.load(file.head, label ?? file.name, timed(), binding)
    // The store keeps it until its space is needed; sets hold what is active.
    resident.release()
    return this.#keep(id, label, file.head.headBytes, resident, binding, uploadMs)
  }

  /** Takes an expert that is in VRAM already under another id; undefined if it is not. */
  adopt(
    id: string,
    label: string | undefined,
    rootHash: string,
    binding: BindingChoice = 'auto',
  ): LoadedInfo | undefined {
    const resident = this.#experts.find(rootHash)
    const twin = [...this.#loaded.values()].find((loaded) => loaded.resident === resident)
    if (resident === undefined || twin === undefined) return undefined
    this.#bindingOf(resident, binding)
    return this.#keep(id, label, twin.headBytes, resident, binding, 0)
  }

  #keep(
    id: string,
    label: string | undefined,
    headBytes: number,
    resident: ResidentExpert,
    binding: BindingChoice,
    uploadMs: number,
  ): LoadedInfo {
    this.#loaded.set(id, { id, headBytes, resident, binding })
    return { ...describe(id, label, headBytes, resident), uploadMs }
  }

  /** Tells which load phases the next switch to this expert should report. */
  loadedIn(id: string, phases: { fetch: number; verify: number; upload: number }): void {
    const expert = this.#loaded.get(id)
    if (expert) expert.unreported = phases
  }

  /** Forgets an expert; its VRAM is free for others once no set has it. */
  unload(id: string): void {
    this.#loaded.delete(id)
  }

  /**
   * Makes a set the one that calls without experts of their own use; an empty set is the base.
   * @throws {TritswapError} `released` with `fields.evicted` if experts have to be loaded again first
   */
  async activate(active: readonly ActiveExpert[], signal?: AbortSignal): Promise<SwitchReport> {
    const start = performance.now()
    const set = this.set(active)
    const timings = await this.runtime.activate(set, signal)
    const phases = { fetch: 0, verify: 0, upload: 0, apply: timings?.totalMs ?? 0 }
    for (const { expert } of active) {
      const loaded = this.#loaded.get(expert)
      phases.fetch += loaded?.unreported?.fetch ?? 0
      phases.verify += loaded?.unreported?.verify ?? 0
      phases.upload += loaded?.unreported?.upload ?? 0
      if (loaded) loaded.unreported = undefined
    }
    const before = phases.fetch + phases.verify + phases.upload
    this.#lastSwitch = { set: set.id, experts: active, phases, total: before + performance.now() - start }
    return this.#lastSwitch
  }

  /** @throws {TritswapError} `released` with `fields.evicted` if experts have to be loaded again first */
  set(active: readonly ActiveExpert[]): ExpertSet {
    const loaded = active.map(({ expert }) => {
      const found = this.#loaded.get(expert)
      if (!found)
        throw new TritswapError('released', `Cannot activate ${expert}: it was released, or never loaded`)
      return found
    })
    const evicted = loaded.filter(({ resident }) => resident.evicted).map(({ id }) => id)
    if (evicted.length > 0) {
      throw new TritswapError(
        'released',
        `Cannot activate ${evicted.join(', ')}: evicted from VRAM, load again`,
        {
          fields: { evicted },
        },
      )
    }
    const set = this.runtime.set(
      loaded.map(({ resident, binding }, i) => ({
        expert: resident,
        weight: active[i].weight,
        binding: this.#bindingOf(resident, active[i].binding ?? binding),
      })),
    )
    this.#named.set(set, active)
    return set
  }

  #bindingOf(resident: ResidentExpert, choice: BindingChoice): ExpertBinding {
    const known = this.#bindings.get(resident) ?? new Map<BindingChoice, ExpertBinding>()
    this.#bindings.set(resident, known)
    const binding = known.get(choice) ?? this.runtime.bind(resident.table, choice)
    known.set(choice, binding)
    return binding
  }

  /** The experts of a set, by id. */
  namesOf(set: ExpertSet): readonly ActiveExpert[] {
    return this.#named.get(set) ?? []
  }

  stats(): EngineStats {
    const store = this.#experts.stats()
    const vram = {
      base: this.#weights.bytes,
      experts: store.arenaBytes,
      journal: this.#switcher.journalBytes,
      beside: this.runtime.besideBytes,
    }
    return {
      vram: { ...vram, total: vram.base + vram.experts + vram.journal + vram.beside },
      active: this.#bound(),
      counts: {
        uploads: store.uploads,
        evictions: store.evictions,
        switches: this.runtime.switches,
        cpuDecodes: ternaryDecodeCalls(),
      },
      expertBytesUploaded: store.uploadedBytes,
      lastSwitch: this.#lastSwitch,
    }
  }

  #bound(): BoundExpert[] {
    const { current } = this.runtime
    return this.namesOf(current).map((active, i) => {
      const { expert, binding } = current.experts[i]
      const uses = binding?.bypass ?? []
      const side = new Set(uses.flatMap((use) => (use.kind === 'side' ? [use.index] : [])))
      const input = new Set(
        uses.flatMap((use) => {
          if (use.kind === 'lowRank') return [use.down.index, use.up.index]
          return use.kind === 'side' ? [] : [use.index]
        }),
      )
      const merge = binding?.merged.size ?? expert.table.tensors.length
      return {
        ...active,
        tensors: { merge, side: side.size, input: input.size },
        sideBytes: this.#beside.bytesOf(expert),
      }
    })
  }

  /** A checksum of all weights in VRAM, computed on the GPU. */
  checksum(): Promise<string> {
    return this.runtime.exclusively(() => this.#weights.checksum())
  }

  /** SHA-256 over every weight buffer read back, in the order of their names. Slow: for tests and for doubt. */
  hashWeights(): Promise<string> {
    return this.runtime.exclusively(async () => {
      const hashes: number[] = []
      const names = this.#weights.feeds().map((feed) => feed.name)
      for (const name of names.sort()) {
        hashes.push(...(await sha256(new Uint8Array(await this.#weights.read(name)))))
      }
      return toHex(await sha256(Uint8Array.from(hashes)))
    })
  }

  /** Frees all VRAM; the device is its owner's. No forward pass may run any more. */
  destroy(): void {
    this.#beside.destroy()
    this.#switcher.destroy()
    this.#experts.destroy()
    this.#weights.destroy()
  }
}

/** What a base is, with the weights that stay integers in its graphs. */
function withIntegers(base: BaseIdentity, integers: readonly IntegerSite[]): BaseIdentity {
  const shapes = new Map(base.shapes)
  const sketches = new Map(base.sketches)
  for (const { target, shape, sketch } of integers.flatMap(({ parts }) => parts)) {
    if (!shapes.has(target)) sketches.set(target, sketch)
    if (!shapes.has(target)) shapes.set(target, shape)
  }
  return { ...base, shapes, sketches }
}

function vramDtype({ graphs }: BaseBindings): 'f32' | 'f16' {
  return graphs.some(({ inputs }) => inputs.some(({ dtype }) => dtype === 'float16')) ? 'f16' : 'f32'
}

function describe(
  id: string,
  label: string | undefined,
  headBytes: number,
  { table, rootHash, bytes }: ResidentExpert,
): Omit<ExpertInfo, 'timings'> {
  const { tensors, compression } = table
  return {
    id,
    label: label ?? table.label ?? id,
    description: table.description,
    prompt: table.prompt,
    licence: table.licence,
    method: table.method,
    bytes: headBytes + tensors.reduce((sum, tensor) => sum + tensor.bytes, 0),
    rootHash,
    weights: countWeights(tensors),
    kept: tensors.reduce(
      (sum, tensor) => sum + (tensor.codec === 'ternary' ? tensor.kept : countWeights([tensor])),
      0,
    ),
    density: compression.density,
    alpha: compression.alpha,
    residentBytes: bytes,
  }
}
