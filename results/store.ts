import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Estimate } from '../src/cli/scores.ts'

/** What was measured of one row: numbers, and estimates with their standard errors. */
export type Figures = Record<string, number | string | Estimate | undefined>

/** The rows of one table that have been measured, kept in a file as soon as they are. */
export class Store {
  readonly #path: string
  readonly #rows: Record<string, Figures>

  constructor(folder: string, id: string) {
    this.#path = join(folder, `${id}.json`)
    try {
      this.#rows = JSON.parse(readFileSync(this.#path, 'utf8'))
    } catch {
      this.#rows = {}
    }
  }

  get(key: string): Figures | undefined {
    return this.#rows[key]
  }

  /** An estimate of a row. @throws where it was not measured */
  estimate(key: string, name: string): Estimate {
    const found = this.#rows[key]?.[name]
    if (typeof found === 'object') return found
    throw new Error(`Cannot find ${name} of ${key}: measure that row first`)
  }

  number(key: string, name: string): number {
    const found = this.#rows[key]?.[name]
    if (typeof found === 'number') return found
    throw new Error(`Cannot find ${name} of ${key}: measure that row first`)
  }

  keys(): string[] {
    return Object.keys(this.#rows)
  }

  set(key: string, figures: Figures): void {
    this.#rows[key] = rounded(figures)
    mkdirSync(dirname(this.#path), { recursive: true })
    const sorted = Object.entries(this.#rows).sort(([a], [b]) => (a < b ? -1 : 1))
    writeFileSync(
      this.#path,
      `{\n${sorted.map(([name, row]) => ` ${JSON.stringify(name)}: ${JSON.stringify(row)}`).join(',\n')}\n}\n`,
    )
  }
}

/** Six significant digits: more would be noise, and make every new run a change of every line. */
function rounded(figures: Figures): Figures {
  return JSON.parse(
    JSON.stringify(figures, (_, value) => (typeof value === 'number' ? Number(value.toPrecision(6)) : value)),
  )
}
