import { TritswapError } from '../errors.ts'
import type { FloatInputDtype } from '../format/dtype.ts'
import {
  type BaseBindings,
  bindingsFrom,
  type HoistedInput,
  readHead,
  type TritHead,
  type TritTensor,
  weightsOf,
} from '../format/index.ts'
import type { ByteSource } from '../source/source.ts'

/** What is known of a prepared base without its values: which tensors it has, and which graph inputs hold them. */
export class WeightTable {
  readonly head: TritHead
  readonly bindings: BaseBindings
  readonly #byName: ReadonlyMap<string, TritTensor>

  constructor({ head, bindings }: Pick<WeightTable, 'head' | 'bindings'>) {
    this.head = head
    this.bindings = bindings
    this.#byName = new Map(head.table.tensors.map((tensor) => [tensor.name, tensor]))
  }

  /**
   * Reads the head of a weights file.
   * @param files - the graphs that are run, where the file feeds others too (of another dtype): no binding is between those
   * @throws {TritswapError} `input` for a file without bindings
   */
  static async read(source: ByteSource, files?: readonly string[]): Promise<WeightTable> {
    const head = await readHead(source)
    const { tensors, bindings } = head.table
    if (bindings === undefined) {
      throw new TritswapError(
        'input',
        `Cannot use ${source.name} as a base: it has no bindings; prepare it with tritswap prepare`,
      )
    }
    const { graphs, ...rest } = bindingsFrom(bindings, tensors)
    const run = graphs.filter(({ file }) => files?.includes(file) ?? true)
    return new WeightTable({ head, bindings: { ...rest, graphs: run } })
  }

  knows(tensor: string): boolean {
    return this.#byName.has(tensor)
  }

  /** @throws {TritswapError} `mapping` for a tensor that this base does not have */
  tensor(name: string): TritTensor {
    const found = this.#byName.get(name)
    if (found === undefined) {
      throw new TritswapError('mapping', `Cannot change ${name}: this base has no such tensor`, {
        fields: { tensor: name },
      })
    }
    return found
  }

  /** @throws {TritswapError} `mapping` for a tensor that this base does not have */
  shapeOf(tensor: string): readonly number[] {
    return this.tensor(tensor).shape
  }

  weightsOf(tensor: string): number {
    return weightsOf(this.shapeOf(tensor))
  }

  /** The tensor that experts change in place of this one: itself, or the one that it rounds differently. */
  targetOf(tensor: string): string {
    return this.tensor(tensor).target
  }

  /** The inputs of one graph that weights feed. */
  inputsOf(file: string): readonly HoistedInput[] {
    return this.bindings.graphs.find((graph) => graph.file === file)?.inputs ?? []
  }

  /** Inputs that hold a target's floats. */
  floatPlacementsOf(target: string): { input: string; dtype: FloatInputDtype }[] {
    return this.#inputsWith(target).flatMap(({ name, dtype, raw }) =>
      raw === undefined ? [{ input: name, dtype: dtype as FloatInputDtype }] : [],
    )
  }

  /** Whether a target is quantized in one of its inputs. */
  isQuantized(target: string): boolean {
    return this.#inputsWith(target).some(({ raw }) => raw !== undefined)
  }

  #inputsWith(target: string): HoistedInput[] {
    return this.bindings.graphs.flatMap(({ inputs }) =>
      inputs.filter(({ parts }) => parts.some(({ tensor }) => this.targetOf(tensor) === target)),
    )
  }
}
