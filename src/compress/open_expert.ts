/**
 * Experts that are open together: which of their tensors mean the same.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { layoutOf } from '../format/contributions.ts'
import type { TritHead } from '../format/head.ts'
import type { TritTensor } from '../format/table.ts'
import type { ByteSource } from '../source/source.ts'

/** An expert file that is open. */
export interface OpenExpert {
  source: ByteSource
  head: TritHead
}

/** All tensor names of some experts, in order of first appearance. */
export function tensorNames(experts: readonly OpenExpert[]): string[] {
  return [...new Set(experts.flatMap(({ head }) => head.table.tensors.map(({ name }) => name)))]
}

/**
 * The tensors of one name, expert by expert; undefined where an expert has none.
 * @throws {TritswapError} `input` when they are not the same part of the same model
 */
export function sameTensors(experts: readonly OpenExpert[], name: string): (TritTensor | undefined)[] {
  const tensors = experts.map(({ head }) => byName(head).get(name))
  const first = tensors.findIndex((tensor) => tensor !== undefined)
  for (const [i, tensor] of tensors.entries()) {
    if (tensor === undefined || meaning(tensor) === meaning(tensors[first]!)) continue
    throw new TritswapError(
      'input',
      `Cannot bring experts together: ${name} is ${meaning(tensors[first]!)} in ${experts[first].source.name} and ${meaning(tensor)} in ${experts[i].source.name}; take experts of one base and one kind`,
      { fields: { tensor: name } },
    )
  }
  return tensors
}

const indexes = new WeakMap<TritHead, ReadonlyMap<string, TritTensor>>()

/** A table of thousands of tensors is asked for every name that it has. */
function byName(head: TritHead): ReadonlyMap<string, TritTensor> {
  const known = indexes.get(head) ?? new Map(head.table.tensors.map((tensor) => [tensor.name, tensor]))
  indexes.set(head, known)
  return known
}

function meaning(tensor: TritTensor): string {
  const { role, shape, target, scaling = 1, feedforward = false } = tensor
  const layout = layoutOf(tensor)
  return `${role} [${shape}] of ${target}${scaling === 1 ? '' : ` times ${scaling}`}${layout === undefined ? '' : ` (${layout})`}${feedforward ? ', feed-forward' : ''}`
}
