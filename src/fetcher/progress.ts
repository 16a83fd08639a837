import type { FetchProgress } from './protocol.ts'

/** Twenty events a second: more would not be visible. */
export const INTERVAL_MS = 50

/**
 * Reports in the shape of transformers.js, `progress` at most 20 times a second and never backwards; the function says
 * whether it reported.
 */
export function progressReporter(
  name: string,
  file: string,
  report: ((progress: FetchProgress) => void) | undefined,
  now: () => number = () => performance.now(),
) {
  let last = Number.NEGATIVE_INFINITY
  let most = 0
  return (
    status: FetchProgress['status'],
    phase: FetchProgress['phase'],
    loaded = 0,
    total?: number,
  ): boolean => {
    if (!report) return true
    if (status === 'progress') {
      if (now() - last < INTERVAL_MS) return false
      last = now()
    }
    if (total === undefined) {
      report({ status, name, file, phase })
      return true
    }
    // After a retry some bytes come twice.
    most = Math.max(most, Math.min(loaded, total))
    report({
      status,
      name,
      file,
      phase,
      loaded: most,
      total,
      progress: total === 0 ? 100 : (100 * most) / total,
    })
    return true
  }
}
