/**
 * A base in VRAM and all that it takes to have experts on it: what the engine worker and `attachExperts` build on.
 *
 * The files of this folder; each imports only from its own line and those above:
 *
 * - `weight_precision`, `graph_files`, `filled_base`: model folders, and how their weights get into VRAM
 * - `base_check`, `base_identity`, `target_names`: whether an expert was made for this base
 * - `expert_bindings` and the `bypass_…` files: what its tensors change, and what lies beside the weights
 * - `layer_groups`: weights that differ by layer
 * - `expert_info`, `evicted`, `overtaken`: what users are told, and what a call is told that cannot have its experts
 * - `hoisted_session`, `create_session`, `graph_variants`: sessions
 * - `expert_set`, `merged_weights`, `sets_in_use`: what a set of experts takes
 * - `expert_runtime`: the order of forward passes and switches
 * - `fitted_expert`, `expert_admission`, `loaded_experts`: experts on their way into VRAM, and by id
 * - `expert_host`: all of it together
 *
 * `score` and `onnx_checkpoint` stand by themselves.
 *
 * @module
 */
import { isTritswapError } from '../errors.ts'
import { sha256, ternaryDecodeCalls, toHex } from '../format/index.ts'
import { ExpertStore, type Gpu, Switcher, Unpacker, type WeightStore } from '../gpu/index.ts'
import { type GraphFile, integersOf, unusedIn } from '../onnx/index.ts'
import { identify } from './base_identity.ts'
import { BypassBuffers } from './bypass_buffers.ts'
import { createLike } from './create_session.ts'
import { ExpertAdmission } from './expert_admission.ts'
import type { BoundExpert, EngineStats } from './expert_info.ts'
import { ExpertRuntime } from './expert_runtime.ts'
import type { FilledBase } from './filled_base.ts'
import type { VariantSource } from './graph_variants.ts'
import { LayerGroups } from './layer_groups.ts'
import { countWeights, LoadedExperts } from './loaded_experts.ts'
import { SiteIndex } from './site_index.ts'
import { floatDtypeOf } from './weight_precision.ts'

interface HostParts {
  gpu: Gpu
  weights: WeightStore
  store: ExpertStore
  switcher: Switcher
  bypass: BypassBuffers
  runtime: ExpertRuntime
  loaded: LoadedExperts
  dtype: 'f32' | 'f16'
  weightCount: number
  fingerprint: string | undefined
}

export class ExpertHost {
  readonly runtime: ExpertRuntime
  /** Its experts, by id. */
  readonly loaded: LoadedExperts
  /** Type of the weights in VRAM. */
  readonly dtype: 'f32' | 'f16'
  /** Of the checkpoint that the base was prepared from, if known. */
  readonly fingerprint: string | undefined
  /** Weights in tritswap's own buffers; a tied tensor counts once. */
  readonly weightCount: number
  readonly gpu: Gpu
  readonly #weights: WeightStore
  readonly #store: ExpertStore
  readonly #switcher: Switcher
  readonly #bypass: BypassBuffers

  /**
   * @param options.expertBudget - VRAM for compressed experts, in bytes; as much again may hold unpacked ones
   * @param options.graphs - by the names of their sessions: what experts can be put beside
   * @param options.ownPasses - as of `AdmissionParts`
   * @param options.modelType - of the model's configuration
   * @param options.sessionOptions - added to what sessions are created with
   * @throws {TritswapError} `memory`; the weights are the caller's to destroy then
   */
  static async create(
    { gpu, weights, table, bindings, precision }: FilledBase,
    options: {
      name: string
      fingerprint?: string
      expertBudget: number
      graphs?: Readonly<Record<string, GraphFile>>
      sessionOptions?: Readonly<Record<string, unknown>>
      ownPasses?: boolean
      modelType?: string
    },
  ): Promise<ExpertHost> {
    const graphs = Object.entries(options.graphs ?? {})
    const store = await ExpertStore.create({ gpu, budgetBytes: options.expertBudget })
    const switcher = await Switcher.create({ gpu, weights, experts: store })
    const dtype = floatDtypeOf(bindings)
    const integers = graphs.flatMap(([, { graph }]) => integersOf(graph))
    const identity = {
      name: options.name,
      fingerprint: table.base.fingerprint ?? options.fingerprint,
      dtype: precision ?? (integers.length > 0 ? 'q8' : dtype),
      isUnused: unusedIn(graphs.map(([, { graph }]) => graph)),
    }
    const base = await identify(weights, identity, table.tensors, integers)
    const bypass = new BypassBuffers(await Unpacker.create({ gpu, experts: store }), options.expertBudget)
    const tensors = new Map(table.tensors.map((tensor) => [tensor.name, tensor]))
    const sources = graphs.map(([name, { graph, external }]): [string, VariantSource] => {
      const inputs = bindings.graphs.find(({ file }) => file === graph.file)?.inputs ?? []
      const create: VariantSource['create'] = (like, bytes) =>
        createLike(like, { graph, external, bytes }, gpu, options.sessionOptions)
      return [name, { graph: { graph, inputs, tensors, modelType: options.modelType }, create }]
    })
    const runtime = new ExpertRuntime({
      weights,
      switcher,
      bypass: { buffers: bypass, graphs: new Map(sources) },
    })
    const sites = new SiteIndex(sources.map(([name, { graph }]) => [name, graph]))
    const layers = new LayerGroups(tensors.keys())
    const { ownPasses } = options
    const costs = { software: gpu.adapter.software, copyBudget: options.expertBudget }
    const admission = new ExpertAdmission({
      ...{ weights, experts: store, switcher, runtime, base, sites, layers, costs, ownPasses },
    })
    const loaded = new LoadedExperts(store, admission, runtime)
    const weightCount = countWeights(table.tensors)
    return new ExpertHost({
      gpu,
      weights,
      store,
      switcher,
      bypass,
      runtime,
      loaded,
      dtype,
      weightCount,
      fingerprint: identity.fingerprint,
    })
  }

  private constructor(parts: HostParts) {
    this.gpu = parts.gpu
    this.runtime = parts.runtime
    this.loaded = parts.loaded
    this.dtype = parts.dtype
    this.fingerprint = parts.fingerprint
    this.weightCount = parts.weightCount
    this.#weights = parts.weights
    this.#store = parts.store
    this.#switcher = parts.switcher
    this.#bypass = parts.bypass
  }

  /** The library on the page adds the last switch, which it reports with the phases of the loads before. */
  stats(): Omit<EngineStats, 'lastSwitch'> {
    const store = this.#store.stats()
    const vram = {
      base: this.#weights.bytes,
      experts: store.arenaBytes,
      own: this.#weights.ownFormBytes,
      journal: this.#switcher.journalBytes + this.#switcher.spareBytes,
      copies: this.#switcher.copyBytes,
      beside: this.runtime.bypassBytes,
    }
    return {
      vram: { ...vram, total: Object.values(vram).reduce((sum, bytes) => sum + bytes, 0) },
      active: this.#active(),
      counts: {
        uploads: store.uploads,
        evictions: store.evictions,
        switches: this.runtime.switches,
        cpuDecodes: ternaryDecodeCalls(),
      },
      expertBytesUploaded: store.uploadedBytes,
    }
  }

  /** What is active, with how each expert meets the base. */
  #active(): BoundExpert[] {
    const { current } = this.runtime
    return this.loaded.namesOf(current).map((active, i) => {
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
        why: this.loaded.whyOf(expert, active),
        sideBytes: this.#bypass.bytesOf(expert),
      }
    })
  }

  /**
   * Gives back the VRAM that nothing in use needs: experts that no set holds, what was unpacked of them, and what is kept for
   * the next switch. What is active stays, and is not disturbed.
   * @returns bytes
   */
  trim(): Promise<number> {
    return this.runtime.exclusively(async () => {
      const before = this.stats().vram.total
      this.#switcher.trim()
      try {
        await this.#store.trim()
      } catch (error) {
        // To move the others together takes room for a moment; without it they stay where they are.
        if (!isTritswapError(error, 'memory')) throw error
      }
      this.#bypass.trim()
      return before - this.stats().vram.total
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
    this.#bypass.destroy()
    this.#switcher.destroy()
    this.#store.destroy()
    this.#weights.destroy()
  }
}
