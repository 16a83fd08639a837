import type { Endpoint } from 'comlink'
import { serve } from '../../src/rpc/index.ts'

/** A worker on this thread: `serve` on one end of a channel, the `Worker` interface on the other. */
export interface FakeWorker {
  worker: Worker
  /** Dies as a worker does whose script threw. */
  crash(message: string): void
  terminated: boolean
}

export function fakeWorker(api: object): FakeWorker {
  const { port1, port2 } = new MessageChannel()
  serve(api, port1 as unknown as Endpoint)
  const errors = new EventTarget()
  const fake: FakeWorker = {
    worker: {
      postMessage: (message: unknown, transfer: Transferable[] = []) => port2.postMessage(message, transfer),
      addEventListener: (type: string, listener: EventListener) =>
        (type === 'message' ? port2 : errors).addEventListener(type, listener),
      removeEventListener: (type: string, listener: EventListener) =>
        (type === 'message' ? port2 : errors).removeEventListener(type, listener),
      terminate() {
        fake.terminated = true
        port1.close()
        port2.close()
      },
    } as unknown as Worker,
    crash: (message) => errors.dispatchEvent(Object.assign(new Event('error'), { message })),
    terminated: false,
  }
  port2.start()
  return fake
}
