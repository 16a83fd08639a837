import { Presets, SingleBar } from 'cli-progress'

export interface Progress {
  update(done: number, total: number): void
  stop(): void
}

/** Work that ends sooner shows no bar. */
const QUIET_MS = 1000

/** A bar on stderr once something takes over a second; nothing where stderr is not a terminal. */
export function progressBar(what: string): Progress {
  if (!process.stderr.isTTY) return { update() {}, stop() {} }
  const start = Date.now()
  let bar: SingleBar | undefined
  return {
    update(done, total) {
      if (Date.now() - start < QUIET_MS) return
      if (bar === undefined) {
        bar = new SingleBar(
          { format: `${what} {bar} {percentage}% {eta_formatted} left`, stream: process.stderr },
          Presets.shades_classic,
        )
        bar.start(total, done)
      }
      bar.setTotal(total)
      bar.update(done)
    },
    stop: () => bar?.stop(),
  }
}
