import { parseArgs } from 'node:util'
import type { BenchCase, BenchOptions } from './cases.ts'

/** Command line options of both runners. */
const OPTIONS = {
  json: { type: 'string' },
  weights: { type: 'string', default: String(2 ** 24) },
  density: { type: 'string', default: '0.05,0.2' },
  dtype: { type: 'string', default: 'float32,float16' },
  layout: { type: 'string', default: 'rows,transposed' },
  rounds: { type: 'string', default: '5' },
  help: { type: 'boolean', short: 'h', default: false },
} as const

const USAGE = `  --weights <n>     weights of the matrix (16777216); rounded down to whole rows of 4096
  --density <list>  shares of entries kept, from 0 to 1, with commas between them (0.05,0.2)
  --dtype <list>    float32, float16 (both)
  --layout <list>   rows: [out, in]; transposed: as ONNX has matrices (both)
  --rounds <n>      how often each case is timed, in turns with the others; the best time counts (5)
  --json <file>     write the figures to a file
  -h, --help        print this`

export interface KernelOptions {
  bench: BenchOptions
  json: string | undefined
  /** Whether the browser uses the machine's own GPU. */
  gpu: boolean
}

/**
 * Options from the command line, for the runner in the browser, which also has `--gpu`, and for the one in Node.
 * @returns undefined for `--help`
 * @throws {Error} that says which option is wrong
 */
export function kernelOptions(argv: readonly string[], inBrowser: boolean): KernelOptions | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: { ...OPTIONS, ...(inBrowser && { gpu: { type: 'boolean', default: false } as const }) },
  })
  if (values.help) return undefined
  return {
    bench: {
      weights: wholeNumber('weights', values.weights, 4096),
      densities: values.density.split(',').map(share),
      dtypes: someOf('dtype', values.dtype, ['float32', 'float16']),
      layouts: someOf('layout', values.layout, ['rows', 'transposed']),
      rounds: wholeNumber('rounds', values.rounds, 1),
    },
    json: values.json,
    gpu: values.gpu === true,
  }
}

/** Options from this process's command line. Prints the usage and exits for `--help` and for wrong options. */
export function optionsOrHelp(command: string, inBrowser: boolean): KernelOptions {
  const gpu = "  --gpu             the machine's own GPU instead of SwiftShader"
  const usage = [`${command} [options]`, USAGE, ...(inBrowser ? [gpu] : [])].join('\n')
  try {
    const options = kernelOptions(process.argv.slice(2), inBrowser)
    if (options !== undefined) return options
    console.log(usage)
    process.exit(0)
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`)
    process.exit(2)
  }
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new Error(`--${name}: expected a whole number from ${least}, found ${text}`)
}

function share(text: string): number {
  const value = Number(text)
  if (value > 0 && value <= 1) return value
  throw new Error(`--density: expected numbers above 0 and up to 1, found ${text}`)
}

function someOf<T extends string>(name: string, text: string, all: readonly T[]): T[] {
  return text.split(',').map((item) => {
    const found = all.find((known) => known === item)
    if (found === undefined) throw new Error(`--${name}: expected ${all.join(' or ')}, found ${item}`)
    return found
  })
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
