/**
 * Long work on a thread that others use too: a generator that yields wherever it can be interrupted.
 *
 * @module
 */

/** How long others wait at most, ms: half of what is noticed as a delay of a frame. */
const STEP_MS = 8

/** Does work to its end, and lets tasks of others run in between. */
export async function inSteps<T>(work: Generator<void, T>): Promise<T> {
  for (let from = performance.now(); ; ) {
    const { done, value } = work.next()
    if (done) return value
    if (performance.now() - from < STEP_MS) continue
    await nextTask()
    from = performance.now()
  }
}

/** Does work to its end at once. */
export function atOnce<T>(work: Generator<void, T>): T {
  for (;;) {
    const { done, value } = work.next()
    if (done) return value
  }
}

/** Resolves in a task of its own. Not by a timer: browsers slow those down. */
export function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      resolve()
    }
    port2.postMessage(undefined)
  })
}
