import type { Placement } from '../../format/index.ts'
import type { Reader } from '../graph/graph_index.ts'
import type { InitializerData } from '../proto/initializer_data.ts'
import type { Parameter, ParameterGroup } from './parameters.ts'

/** A parameter with its data and the graph file it came from. */
export interface LocatedParameter {
  parameter: Parameter
  data: InitializerData
  file: string
}

/** The tensors that fill an initializer. */
export interface Filling {
  parts: Placement[]
  /** Checkpoint shape of every tensor in `parts`. */
  shapes: ReadonlyMap<string, readonly number[]>
  /** What the graph has added to the checkpoint's values. */
  addend?: number
}

/** A parameter, or the part of one initializer's readers that is one, with the tensors that fill it. */
export interface ResolvedParameter extends LocatedParameter, Filling {
  /** Readers to point at a graph input of their own; undefined when it is all of them. */
  readers?: Reader[]
}

export interface Resolution {
  resolved: ResolvedParameter[]
  /** Parameters that stay in the graph because the checkpoint holds no such values. */
  unmatched: LocatedParameter[]
}

/** One entry for each set of tensors. Readers part only where an exporter merged equal but separate tensors. */
export function separate(
  item: LocatedParameter,
  found: readonly { group: ParameterGroup; filling: Filling }[],
): ResolvedParameter[] {
  const byTensors = new Map<string, { readers: Set<Reader>; filling: Filling }>()
  for (const { group, filling } of found) {
    const key = filling.parts.map(({ tensor }) => tensor).join()
    const known = byTensors.get(key)
    if (known === undefined) byTensors.set(key, { readers: new Set(group.readers), filling })
    else for (const reader of group.readers) known.readers.add(reader)
  }
  const [first, ...rest] = byTensors.values()
  const apart = rest.filter(({ readers }) => ![...readers].some((reader) => first.readers.has(reader)))
  return [
    { ...item, ...first.filling },
    ...apart.map(({ readers, filling }) => ({ ...item, ...filling, readers: [...readers] })),
  ]
}
