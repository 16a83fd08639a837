import { isTritswapError, TritswapError, toError } from '../errors.ts'
import type { Gpu } from './device.ts'

/**
 * Makes GPU calls, all of them before it returns, and resolves once the device has accepted them.
 * @param what - the calls do, after "Cannot"
 * @throws {TritswapError} `memory` when VRAM runs out, `webgpu` when the device refuses a call, `device-lost`; and what
 * the calls throw, if it is one
 */
export async function checked<T>(gpu: Gpu, what: string, calls: () => T): Promise<T> {
  const { device } = gpu
  device.pushErrorScope('out-of-memory')
  device.pushErrorScope('validation')
  let made: { result: T } | { error: unknown }
  try {
    made = { result: calls() }
  } catch (error) {
    made = { error }
  }
  const pop = async () => device.popErrorScope()
  const [refused, exhausted] = await Promise.allSettled([pop(), pop()])
  gpu.lost.throwIfAborted()
  // A buffer that could not be created makes every use of it invalid, so the lack of memory is the cause.
  const shortage = exhausted.status === 'fulfilled' && exhausted.value
  if (shortage) throw noMemory(what, shortage)
  if ('error' in made) throw isTritswapError(made.error) ? made.error : refusal(what, made.error)
  for (const scope of [refused, exhausted]) {
    if (scope.status === 'rejected') throw refusal(what, scope.reason)
    if (scope.value !== null) throw refusal(what, scope.value)
  }
  return made.result
}

function noMemory(what: string, cause: GPUError): TritswapError {
  return new TritswapError(
    'memory',
    `Cannot ${what}: the GPU has no memory left; release experts, or close other pages that use it`,
    { fields: { what }, cause },
  )
}

/** What a call fails with that the device refused. */
export function refusal(what: string, cause: unknown): TritswapError {
  const { message } = cause instanceof Error ? cause : (cause as { message?: string })
  return new TritswapError(
    'webgpu',
    `Cannot ${what}: the GPU refused it (${message ?? toError(cause).message}); try again, and reload the page if it fails again`,
    { fields: { what }, cause },
  )
}
