/**
 * A graph with weights that its exporter folded, and the checkpoint that tells what they were made of.
 *
 * @module
 */
import { halvesToFloats } from '../../format/float16.ts'
import { weightsOf } from '../../format/index.ts'
import { type InitializerData, initializerData, readElements } from '../proto/initializer_data.ts'
import type { GraphProto, NodeProto, TensorProto } from '../proto/onnx_pb.ts'
import { floatType } from '../proto/tensors.ts'
import type { Checkpoint } from '../resolve/checkpoint.ts'
import { moduleOfNode } from '../resolve/names.ts'
import type { CheckpointInitializers } from './checkpoint_initializers.ts'

/** What is rewritten, and from what. */
export interface FoldedGraph {
  main: GraphProto
  /** Version of ONNX's own operators. */
  version: number
  initializers: CheckpointInitializers
  values: CheckpointValues
  /** A name for a node of a module that no other one has. */
  nodeName: (module: string, opType: string) => string
  /** Whether experts are to change a tensor. */
  isWanted: (tensor: string) => boolean
}

/** Whole tensors of a checkpoint: small ones are kept, as many weights are compared with them. */
export class CheckpointValues {
  readonly #checkpoint: Checkpoint
  readonly #kept = new Map<string, Promise<Float32Array>>()

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint
  }

  get names(): string[] {
    return [...this.#checkpoint.tensors.keys()]
  }

  shapeOf(tensor: string): readonly number[] | undefined {
    return this.#checkpoint.tensors.get(tensor)?.shape
  }

  of(tensor: string): Promise<Float32Array> {
    const known = this.#kept.get(tensor)
    if (known !== undefined) return known
    const count = weightsOf(this.shapeOf(tensor)!)
    const values = this.#checkpoint.read(tensor, 0, count)
    if (count <= MAX_KEPT) this.#kept.set(tensor, values)
    return values
  }

  /** {@link of}, or the same value `count` times where there is no such tensor. */
  async orConstant(tensor: string, value: number, count: number): Promise<Float32Array> {
    return this.shapeOf(tensor) === undefined ? new Float32Array(count).fill(value) : this.of(tensor)
  }
}

/** Values of a tensor that is kept. */
const MAX_KEPT = 1 << 16

/** A float initializer that a node reads. */
export interface ReadWeight {
  tensor: TensorProto
  data: InitializerData
  values: Float32Array
}

/** The float initializer at an input of a node; undefined where something else is. */
export async function weightAt(
  { main, initializers }: FoldedGraph,
  node: NodeProto,
  position: number,
): Promise<ReadWeight | undefined> {
  const tensor = main.initializer.find(({ name }) => name !== '' && name === node.input[position])
  if (tensor === undefined || floatType(tensor) === undefined) return undefined
  const data = initializerData(tensor, initializers.external)
  return { tensor, data, values: await floatsOf(data) }
}

/** All values of an initializer. */
export async function floatsOf(data: InitializerData): Promise<Float32Array> {
  const stored = await readElements(data, 0, data.length)
  return stored instanceof Uint16Array ? halvesToFloats(stored) : stored
}

/** How far a value that an exporter computed may be from the same one computed here, relative to its summands. */
export function toleranceOf({ dtype }: InitializerData): { relative: number; absolute: number } {
  return dtype === 'float16' ? { relative: 2 ** -9, absolute: 2e-7 } : { relative: 2 ** -16, absolute: 1e-12 }
}

/** Names in order of their likeness to that of the module which a node belongs to. */
export function likeliest(names: readonly string[], node: NodeProto): string[] {
  return byLikeness(names, moduleOfNode(node) ?? '')
}

/** Names in order of their likeness to another: of tensors with equal values, the likeliest is meant. */
export function byLikeness(names: readonly string[], to: string): string[] {
  const likeness = new Map(names.map((name) => [name, likenessOf(name, to)]))
  return [...names].sort((a, b) => likeness.get(b)! - likeness.get(a)!)
}

/** Components at the start that two names share, where one of them may lack the first. */
function likenessOf(name: string, to: string): number {
  const [components, wanted] = [name.split('.'), to.split('.')]
  const pairs = [
    [components, wanted],
    [components.slice(1), wanted],
    [components, wanted.slice(1)],
  ]
  return Math.max(
    ...pairs.map(([a, b]) => {
      let count = 0
      while (count < a.length && count < b.length && a[count] === b[count]) count++
      return count + (numberOf(a[count]) === numberOf(b[count]) ? 0.5 : 0)
    }),
  )
}

/** The number that a name ends in: `conv2` and `bn2` belong together. */
function numberOf(component = ''): string {
  return /\d*$/.exec(component)![0]
}
