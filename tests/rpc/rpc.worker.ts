import { TritswapError } from '../../src/errors.ts'
import { serve } from '../../src/rpc/index.ts'

const api = {
  add: (a: number, b: number) => a + b,
  fail() {
    throw new TritswapError('limit', 'Cannot do it: too much', {
      fields: { found: 3 },
      cause: new RangeError('inner'),
    })
  },
  never: () => new Promise<never>(() => {}),
  untilAborted: (signal: AbortSignal) =>
    new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason))
    }),
  async *count(to: number) {
    for (let i = 1; i <= to; i++) yield i
  },
  report(callback: (value: ArrayBuffer) => void) {
    callback(new ArrayBuffer(8))
  },
  /** Ends the thread without a word. */
  vanish() {
    self.close()
  },
  crash() {
    setTimeout(() => {
      throw new Error('boom')
    })
    return new Promise<never>(() => {})
  },
}

export type TestApi = typeof api

serve(api)
