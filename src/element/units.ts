/** Bytes for a reader: decimal units, two or three figures. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`
  if (bytes < 999_500) return `${(bytes / 1e3).toFixed(bytes < 9950 ? 1 : 0)} kB`
  if (bytes < 999_500_000) return `${(bytes / 1e6).toFixed(bytes < 99_500_000 ? 1 : 0)} MB`
  return `${(bytes / 1e9).toFixed(1)} GB`
}

/** Milliseconds for a reader; below 10 with one decimal, from 10 000 in seconds. */
export function formatMs(ms: number): string {
  if (ms < 0.05) return '0 ms'
  if (ms >= 9999.5) return `${(ms / 1000).toFixed(1)} s`
  return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`
}

/** A wait for a reader: seconds, from a minute on minutes. */
export function formatWait(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 59.5) return `${seconds < 9.95 ? +seconds.toFixed(1) : Math.round(seconds)} s`
  return `${Math.round(seconds / 60)} min`
}
