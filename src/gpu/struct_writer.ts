import {
  type ArrayDefinition,
  type IntrinsicDefinition,
  type StructDefinition,
  setTypedValues,
  type TypeDefinition,
} from 'webgpu-utils'

/** Writes a value at a byte of a buffer. */
export type Write = (value: unknown, view: DataView, at: number) => void

const SCALARS: Readonly<Record<string, Write>> = {
  u32: (value, view, at) => view.setUint32(at, value as number, true),
  i32: (value, view, at) => view.setInt32(at, value as number, true),
  f32: (value, view, at) => view.setFloat32(at, value as number, true),
}

/**
 * What writes values of a WGSL type as it lays them out: made once for a type, because to look a struct up anew for each value
 * of a list takes most of the time of a switch. Fields that a value lacks stay as they are.
 */
export function writerOf(type: TypeDefinition): Write {
  if ('fields' in type) {
    const fields = Object.entries((type as StructDefinition).fields).map(([name, field]) => ({
      name,
      offset: field.offset,
      write: writerOf(field.type),
    }))
    return (value, view, at) => {
      for (const { name, offset, write } of fields) {
        const found = (value as Readonly<Record<string, unknown>>)[name]
        if (found !== undefined) write(found, view, at + offset)
      }
    }
  }
  if ('elementType' in type && 'fields' in (type as ArrayDefinition).elementType) {
    const { elementType } = type as ArrayDefinition
    const write = writerOf(elementType)
    return (value, view, at) => {
      for (const [i, item] of (value as readonly unknown[]).entries())
        write(item, view, at + i * elementType.size)
    }
  }
  const scalar = SCALARS[(type as IntrinsicDefinition).type]
  return scalar ?? ((value, view, at) => setTypedValues(type, value, view.buffer as ArrayBuffer, at))
}

/** A field of a struct: the word where it starts, and its type, or that of its elements. */
export function fieldOf(type: TypeDefinition, name: string): { word: number; type: TypeDefinition } {
  const { offset, type: own } = (type as StructDefinition).fields[name]
  return { word: offset / 4, type: 'elementType' in own ? (own as ArrayDefinition).elementType : own }
}

/** The words of fields of a struct, from its start. */
export function fieldWords<const Name extends string>(
  type: TypeDefinition,
  names: readonly Name[],
): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, fieldOf(type, name).word])) as Record<Name, number>
}
