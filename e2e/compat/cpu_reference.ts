import { Tensor } from '@xenova/transformers'
import { moduleOf } from '../../src/model/graph_files.ts'
import { graphPath } from '../../src/model/graph_path.ts'
import { type GpuTensor, hoistedSession, type OrtSession } from '../../src/model/hoisted_session.ts'
import { OnnxGraph } from '../../src/onnx/index.ts'
import { type BoundExperts, ReferenceBase, ReferenceWeights, readExpert } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import type { Job } from './protocol.ts'

type OwnSession = OrtSession & { config?: unknown }

export interface SessionClass {
  create(bytes: Uint8Array, options: object): Promise<OwnSession>
}

/**
 * A prepared model, by default on onnxruntime's CPU backend, with weights that our reference decoder merged: what is left to compare
 * with where torch has no outputs.
 */
export class CpuReference {
  readonly #base: ReferenceBase
  readonly #sessions: ReadonlyMap<string, { file: string; session: OwnSession }>
  readonly #create: (bytes: Uint8Array) => Promise<OwnSession>
  /** Of variants of the graphs. */
  readonly #more: OwnSession[] = []

  private constructor(
    base: ReferenceBase,
    sessions: ReadonlyMap<string, { file: string; session: OwnSession }>,
    create: (bytes: Uint8Array) => Promise<OwnSession>,
  ) {
    this.#base = base
    this.#sessions = sessions
    this.#create = create
  }

  /**
   * @param like - sessions of the plain model
   * @param provider - what runs the graph: the CPU, or the GPU in its own arithmetic
   */
  static async open(
    { prepared, graph, dtype }: Job,
    like: Record<string, { config?: unknown }>,
    InferenceSession: SessionClass,
    provider: 'wasm' | 'webgpu' = 'wasm',
  ): Promise<CpuReference> {
    const weights = await ReferenceWeights.open(await fetched(`${prepared}/weights.trit`))
    const open = (bytes: Uint8Array) => InferenceSession.create(bytes, { executionProviders: [provider] })
    const graphs: OnnxGraph[] = []
    const sessions = new Map<string, { file: string; session: OwnSession }>()
    for (const name of Object.keys(like)) {
      const file = graphPath(moduleOf(name, Object.keys(like)), dtype, graph)
      const bytes = new Uint8Array(await (await fetch(`${prepared}/${file}`)).arrayBuffer())
      const session = await open(bytes)
      graphs.push(new OnnxGraph(file, bytes))
      session.config = like[name].config
      sessions.set(name, { file, session })
    }
    const base = await ReferenceBase.create(weights, graphs, { name: prepared, dtype })
    return new CpuReference(base, sessions, open)
  }

  /** Sessions with an expert merged, or of the base; what no weight is equal to lies beside the weights here, too. */
  async sessions(expert?: string): Promise<Record<string, OrtSession>> {
    const bound = expert === undefined ? undefined : await this.#bind(expert)
    const sessions: Record<string, OrtSession> = {}
    for (const [name, { file, session }] of this.#sessions) {
      const { variant, feeds } = this.#base.feeds(file, bound)
      const own = variant === undefined ? session : await this.#open(variant)
      own.config = session.config
      const tensors = Array.from(feeds, ([input, { dtype, data, dims }]) => {
        const tensor = new Tensor(dtype, data, [...dims]) as unknown as { ort_tensor: GpuTensor }
        return [input, tensor.ort_tensor] as const
      })
      sessions[name] = hoistedSession(own, new Map(tensors), (run) => run())
    }
    return sessions
  }

  async #bind(url: string): Promise<BoundExperts> {
    const admitted = await this.#base.admit(await readExpert(await fetched(url)), url)
    return this.#base.bind([{ ...admitted, weight: 1 }], 'merge')
  }

  async #open(bytes: Uint8Array): Promise<OwnSession> {
    const session = await this.#create(bytes)
    this.#more.push(session)
    return session
  }

  async release(): Promise<void> {
    for (const { session } of this.#sessions.values()) await session.release?.()
    for (const session of this.#more) await session.release?.()
  }
}

async function fetched(url: string) {
  return memorySource(await (await fetch(url)).arrayBuffer(), url)
}
