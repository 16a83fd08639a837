/**
 * An entry of a registry: what is read from the file, and what people wrote.
 *
 * @module
 */
import { relative, sep } from 'node:path'
import { TritswapError } from '../errors.ts'
import { summaryOf } from '../format/codecs/index.ts'
import { readHead, type TritHead } from '../format/head.ts'
import type { TritTable } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import type { RegistryEntry } from '../source/registry.ts'
import { openFile } from './file_source.ts'

/** The address of a file, relative to a folder. */
export function urlOf(folder: string, file: string): string {
  return relative(folder, file).split(sep).map(encodeURIComponent).join('/')
}

export async function headOf(path: string): Promise<TritHead> {
  const source = await openFile(path)
  try {
    const head = await readHead(source)
    const expected = head.headBytes + head.payloadBytes
    const size = await source.size()
    if (size !== expected) {
      throw new TritswapError(
        'format',
        `Cannot list ${path}: expected ${expected} bytes, found ${size}; fetch it again`,
        {
          fields: { path, expected, found: size },
        },
      )
    }
    return head
  } finally {
    await source.close()
  }
}

export function entryOf(
  { table, headBytes, payloadBytes, rootHash }: TritHead,
  id: string,
  url: string,
): RegistryEntry {
  const f16 = 2 * table.tensors.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
  const { density, alpha } = table.compression
  return {
    id,
    label: table.label ?? id,
    description: table.description,
    url,
    bytes: headBytes + payloadBytes,
    rootHash,
    method: table.method,
    density,
    alpha,
    licence: table.licence,
    prompt: table.prompt,
    replaces: replacedBy(table, f16),
  }
}

/** Terms do not tell the rank of the adapter that they were made of, so only the whole change is known of them. */
function replacedBy({ method, tensors }: TritTable, f16: number): RegistryEntry['replaces'] {
  const isFactors = method === 'lora' && tensors.every((tensor) => summaryOf(tensor).terms === undefined)
  if (isFactors) return { f16Lora: f16 }
  return method === 'full' || method === 'lora' ? { f16Delta: f16 } : undefined
}

/** What people write into a registry by hand. What was measured on one file goes when the file changes. */
export function edited(entry: RegistryEntry | undefined, rootHash: string): Partial<RegistryEntry> {
  if (!entry) return {}
  const { id, label, description, prompt, system, generation, samples, licence, text, variantOf } = entry
  const { replaces, quality, scores, version, previous, withdrawn } = entry
  const written = {
    id,
    label,
    description,
    prompt,
    system,
    generation,
    samples,
    licence,
    text,
    variantOf,
    replaces,
    version,
    previous,
    withdrawn,
  }
  const fields = entry.rootHash === rootHash ? { ...written, quality, scores } : written
  return withoutAbsent(fields)
}

export function withoutAbsent<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T
}
