/**
 * What the command line prints. Names and texts come from files of strangers: in a terminal, control characters could
 * move the cursor, forge lines, or do worse, so they are printed as the escapes of JSON.
 *
 * @module
 */

/** Control characters, those that turn the direction of text, and other ends of lines. */
const HIDDEN = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu

/** A text that takes one line and shows every character it has. */
export function oneLine(text: string): string {
  return text.replace(HIDDEN, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** Prints lines to stdout. */
export function print(...lines: string[]): void {
  process.stdout.write(linesOf(lines))
}

/** Prints lines to stderr. */
export function note(...lines: string[]): void {
  process.stderr.write(linesOf(lines))
}

/** Prints text whose line breaks are of this program's own making. */
export function printText(text: string): void {
  print(...text.split('\n'))
}

/** Prints a value as JSON. */
export function printJson(value: unknown): void {
  printText(JSON.stringify(value, null, 1))
}

function linesOf(lines: readonly string[]): string {
  return lines.map((line) => `${oneLine(line)}\n`).join('')
}
