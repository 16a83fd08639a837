/**
 * Inputs of jobs on their way to another thread. Byte sources have methods and cannot be sent: files cross as paths and
 * are opened again on the other side.
 *
 * @module
 */
import type { ByteSource } from '../source/source.ts'
import { type FileSource, openFile } from './file_source.ts'

/** Stands for a file source in a message. */
interface PathOf {
  path: string
}

/** The input with its sources replaced by their paths; undefined if one of them is not a file. */
export function withPaths(input: object): object | undefined {
  const entries: [string, unknown][] = []
  for (const [key, value] of Object.entries(input)) {
    if (!isRecord(value)) {
      entries.push([key, value])
    } else if (isSource(value)) {
      if (!('path' in value)) return undefined
      entries.push([key, { path: value.path }])
    } else {
      const inner = withPaths(value)
      if (inner === undefined) return undefined
      entries.push([key, inner])
    }
  }
  return Object.fromEntries(entries)
}

/** The input with its paths opened, each file once a thread. */
export async function withSources(value: unknown): Promise<unknown> {
  if (!isRecord(value)) return value
  if (isPath(value)) return openOnce(value.path)
  const entries = Object.entries(value).map(async ([key, item]) => [key, await withSources(item)])
  return Object.fromEntries(await Promise.all(entries))
}

const files = new Map<string, Promise<FileSource>>()

function openOnce(path: string): Promise<FileSource> {
  const open = files.get(path) ?? openFile(path)
  files.set(path, open)
  return open
}

function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !Array.isArray(value)
}

function isSource(value: object): value is ByteSource {
  return 'read' in value && typeof value.read === 'function'
}

function isPath(value: object): value is PathOf {
  return 'path' in value && Object.keys(value).length === 1
}
