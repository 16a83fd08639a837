/**
 * Creates a session of another graph with the settings of one that transformers.js or its user made.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { Gpu } from '../gpu/index.ts'
import { externalFilesOf, type GraphFile } from '../onnx/index.ts'
import type { OrtSession } from './hoisted_session.ts'

/** An `InferenceSession` as transformers.js keeps it: with a note of how it was made. */
export interface ConfiguredSession extends OrtSession {
  outputNames?: readonly string[]
  config?: { dtype?: string; device?: string }
}

export type SessionClass = { create(bytes: Uint8Array, options: object): Promise<ConfiguredSession> }

/**
 * @param graph - with `bytes`, a variant of it that needs the same data files
 * @param extra - added to what the session is created with
 * @throws {TritswapError} `input` for a session of something else than onnxruntime-web, `network`
 */
export async function createLike(
  old: ConfiguredSession,
  { graph, external, bytes = graph.bytes }: GraphFile & { bytes?: Uint8Array },
  { device }: Gpu,
  extra: Readonly<Record<string, unknown>> = {},
): Promise<ConfiguredSession> {
  const { create } = old.constructor as unknown as Partial<SessionClass>
  if (typeof create !== 'function') {
    throw new TritswapError(
      'input',
      'Cannot attach experts: the session is not of onnxruntime-web in this thread',
    )
  }
  // transformers.js keeps the cache of its WebGPU sessions on the GPU.
  const cached =
    old.config?.device === 'webgpu' ? (old.outputNames ?? []).filter((name) => /^present/.test(name)) : []
  const externalData = []
  for (const path of externalFilesOf(graph)) {
    const source = external(path)
    await source.read(0, 1)
    const size = await source.size()
    if (size === undefined) {
      throw new TritswapError('network', `Cannot fetch ${source.name}: its server does not tell its size`)
    }
    externalData.push({ path, data: await source.read(0, size) })
  }
  const session = await create.call(old.constructor, bytes, {
    executionProviders: [{ name: 'webgpu', device }],
    ...(cached.length > 0
      ? { preferredOutputLocation: Object.fromEntries(cached.map((name) => [name, 'gpu-buffer'])) }
      : {}),
    ...(externalData.length > 0 ? { externalData } : {}),
    ...extra,
  })
  if (old.config) session.config = old.config
  return session
}
