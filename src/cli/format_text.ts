/** Numbers and tables for people. */
import { oneLine } from './print.ts'

export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`
  const units = ['kB', 'MB', 'GB', 'TB']
  let value = bytes / 1000
  let unit = 0
  while (value >= 1000 && unit + 1 < units.length) {
    value /= 1000
    unit++
  }
  return `${value.toPrecision(3)} ${units[unit]}`
}

export function formatNumber(value: number, digits = 4): string {
  return Number(value.toPrecision(digits)).toString()
}

/** Columns padded to their widest cell; numbers to the right. */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => oneLine(String(cell))))
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column].length)))
  const right = head.map((_, column) =>
    rows.every((row) => /^[-\d.,e+%×∞ ]*( [kMGT]?B)?$/.test(String(row[column]))),
  )
  return cells
    .map((row) =>
      row
        .map((cell, i) => (right[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** The first of some names, and how many more there are. */
export function someOf(names: readonly string[], most = 4): string {
  const more = names.length > most ? ` and ${names.length - most} more` : ''
  return `${names.slice(0, most).join(', ')}${more}`
}
