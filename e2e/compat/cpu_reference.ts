import { Tensor } from '@xenova/transformers'
import { moduleOf } from '../../src/model/graph_files.ts'
import { graphPath } from '../../src/model/graph_path.ts'
import { type GpuTensor, hoistedSession, type OrtSession } from '../../src/model/hoisted_session.ts'
import { OnnxGraph } from '../../src/onnx/index.ts'
import { type BoundExperts, ReferenceBase, ReferenceWeights, readExpert } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import type { Job } from './protocol.ts'

export interface SessionClass {
  create(bytes: Uint8Array, options: object): Promise<OrtSession & { config?: unknown }>
}

/**
 * A prepared model on onnxruntime's CPU backend with weights that our reference decoder merged: what is left to compare
 * with where torch has no outputs.
 */
export class CpuReference {
  readonly #base: ReferenceBase
  readonly #sessions: ReadonlyMap<string, { file: string; session: OrtSession }>

  private constructor(
    base: ReferenceBase,
    sessions: ReadonlyMap<string, { file: string; session: OrtSession }>,
  ) {
    this.#base = base
    this.#sessions = sessions
  }

  /** @param like - sessions of the plain model */
  static async open(
    { prepared, graph, dtype }: Job,
    like: Record<string, { config?: unknown }>,
    InferenceSession: SessionClass,
  ): Promise<CpuReference> {
    const weights = await ReferenceWeights.open(await fetched(`${prepared}/weights.trit`))
    const graphs: OnnxGraph[] = []
    const sessions = new Map<string, { file: string; session: OrtSession }>()
    for (const name of Object.keys(like)) {
      const file = graphPath(moduleOf(name, Object.keys(like)), dtype, graph)
      const bytes = new Uint8Array(await (await fetch(`${prepared}/${file}`)).arrayBuffer())
      const session = await InferenceSession.create(bytes, { executionProviders: ['wasm'] })
      graphs.push(new OnnxGraph(file, bytes))
      session.config = like[name].config
      sessions.set(name, { file, session })
    }
    const base = await ReferenceBase.create(weights, graphs, { name: prepared, dtype })
    return new CpuReference(base, sessions)
  }

  /** Sessions with an expert merged, or of the base. */
  async sessions(expert?: string): Promise<Record<string, OrtSession>> {
    const bound = expert === undefined ? undefined : await this.#bind(expert)
    return Object.fromEntries(
      Array.from(this.#sessions, ([name, { file, session }]) => {
        const feeds = Array.from(this.#base.feeds(file, bound).feeds, ([input, { dtype, data, dims }]) => {
          const tensor = new Tensor(dtype, data, [...dims]) as unknown as { ort_tensor: GpuTensor }
          return [input, tensor.ort_tensor] as const
        })
        return [name, hoistedSession(session, new Map(feeds), (run) => run())]
      }),
    )
  }

  async #bind(url: string): Promise<BoundExperts> {
    const admitted = await this.#base.admit(await readExpert(await fetched(url)), url)
    return this.#base.bind([{ ...admitted, weight: 1 }], 'merge')
  }

  async release(): Promise<void> {
    for (const { session } of this.#sessions.values()) await session.release?.()
  }
}

async function fetched(url: string) {
  return memorySource(await (await fetch(url)).arrayBuffer(), url)
}
