import type { BenchCase, BenchOptions } from './cases.ts'

/** Command line options that both runners know. */
export const OPTIONS = {
  json: { type: 'string' },
  weights: { type: 'string' },
  density: { type: 'string' },
  dtype: { type: 'string' },
  layout: { type: 'string' },
  rounds: { type: 'string' },
} as const

const list = <T extends string>(text: string) => text.split(',') as T[]

/** Options from command line texts; the same for the browser's runner and Node's. */
export function optionsFrom(texts: Record<string, string | boolean | undefined>): BenchOptions {
  const text = (name: string, otherwise: string) => String(texts[name] ?? otherwise)
  return {
    weights: Number(text('weights', String(2 ** 24))),
    densities: list(text('density', '0.05,0.2')).map(Number),
    dtypes: list(text('dtype', 'float32,float16')),
    layouts: list(text('layout', 'rows,transposed')),
    rounds: Number(text('rounds', '5')),
  }
}

/** One line of the table. */
export function report({
  kernel,
  dtype,
  layout,
  weights,
  density,
  ms,
  gbps,
  vsDenseAdd,
  vsScalarAdd,
  vsCopy,
}: BenchCase): string {
  return [
    kernel.padEnd(20),
    dtype,
    layout.padEnd(10),
    `${(weights / 2 ** 20).toFixed(0)} M`.padStart(6),
    `${(density * 100).toFixed(0)} %`.padStart(5),
    `${ms.toFixed(2)} ms`.padStart(11),
    `${gbps.toFixed(1)} GB/s`.padStart(12),
    `${vsDenseAdd.toFixed(2)} × dense add`.padStart(17),
    `${vsScalarAdd.toFixed(2)} × scalar add`.padStart(18),
    `${vsCopy.toFixed(2)} × copy`.padStart(13),
  ].join(' ')
}
