/**
 * The seam to onnxruntime-web: a session whose weights are graph inputs looks like the session with weights that it
 * replaces.
 *
 * @module
 */

/** The part of an onnxruntime-web `InferenceSession` that tritswap uses; typed here so that no copy of it is imported. */
export interface OrtSession {
  readonly inputNames: readonly string[]
  readonly inputMetadata?: readonly { readonly name: string }[]
  run(feeds: Record<string, unknown>, ...rest: unknown[]): Promise<Record<string, unknown>>
  release?(): Promise<void>
}

/** A tensor over one of tritswap's GPU buffers. onnxruntime-web takes any object of this form. */
export interface GpuTensor {
  readonly location: 'gpu-buffer'
  readonly type: 'float32' | 'float16' | 'uint8'
  readonly dims: readonly number[]
  readonly gpuBuffer: GPUBuffer
}

/** A session with more inputs than the one it stands in for, and what those are fed with. */
export interface SessionVariant {
  readonly session: OrtSession
  readonly feeds: Readonly<Record<string, GpuTensor>>
}

/** Runs a session, or one of its variants in its place. */
export type RunSession = (variant?: SessionVariant) => Promise<Record<string, unknown>>

/**
 * Wraps a session so that its hoisted inputs are fed on every run and hidden from its caller: transformers.js picks its
 * feeds by `inputNames` and takes cache shapes from `inputMetadata`.
 *
 * @param around - called with each run; decides when it happens (see {@link SerialQueue})
 */
export function hoistedSession<S extends OrtSession>(
  session: S,
  weights: ReadonlyMap<string, GpuTensor>,
  around: (run: RunSession) => Promise<Record<string, unknown>>,
): S {
  const feeds = Object.fromEntries(Array.from(weights).filter(([name]) => session.inputNames.includes(name)))
  const inputNames = session.inputNames.filter((name) => !weights.has(name))
  const inputMetadata = session.inputMetadata?.filter(({ name }) => !weights.has(name))
  const run: OrtSession['run'] = (own, ...rest) =>
    around((variant) => (variant?.session ?? session).run({ ...own, ...feeds, ...variant?.feeds }, ...rest))
  return new Proxy(session, {
    get(target, key) {
      if (key === 'inputNames') return inputNames
      if (key === 'inputMetadata') return inputMetadata
      if (key === 'run') return run
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
