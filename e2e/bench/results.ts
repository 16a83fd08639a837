/**
 * From samples to what is claimed: medians, ratios of one run against their bars, the alternatives side by side.
 *
 * @module
 */
import type { PreparedFiles } from './files.ts'
import {
  densityCase,
  KINDS,
  type Kind,
  openingCase,
  residentCase,
  STAGES,
  sizeCase,
  stageCase,
  WAYS,
  type Way,
} from './names.ts'
import type { BenchOptions } from './options.ts'
import type { GroupResult, PageConfig, Unit } from './protocol.ts'
import { type LinearFit, linearFit, MIN_SAMPLES, spreadOf, summary, UNRELIABLE_SPREAD } from './stats.ts'

export interface Adapter {
  vendor: string
  architecture: string
  device: string
  description: string
  /** A software adapter: its figures say nothing about a GPU. */
  software: boolean
  features: { timestamps: boolean; f16: boolean }
}

export interface Environment {
  date: string
  versions: Record<string, string>
  machine: {
    system: string
    cpu: string
    cores: number
    memoryBytes: number
    /** Processes that wanted to run in the minute before. */
    load: number
  }
}

export interface BenchCase {
  name: string
  group: string
  unit: Unit
  median: number
  /** Interquartile range over the median. */
  spread: number
  n: number
  /** A figure of time with few samples or a wide spread. */
  unreliable: boolean
}

/** `xVsY` is x over y; null where this run measured one of the two not at all. */
export interface Ratios {
  /** What alternative (a), disposing and loading again, adds to the next first token, over a resident switch A → B. */
  reloadVsSwitch: number | null
  /** … until its session says that it is ready, shaders not compiled yet. */
  reloadReadyVsSwitch: number | null
  /** … each until the first token, that one included. */
  reloadVsSwitchToFirstToken: number | null
  /** Alternative (b), adding a dense f16 delta on the GPU, over decoding and applying, base → A. */
  denseVsApply: number | null
  /** The same, of the kernels alone, where the GPU tells. */
  denseVsApplyKernels: number | null
  /** A → B: subtract and add over one fused pass. */
  denseVsSwitch: number | null
  /** A → B over going back to the base and then on to an expert of the same kind, each with its dispatches. */
  switchVsInTurn: number | null
  /** Bytes of expert A over those of its f16 delta. */
  bytesVsF16Delta: number | null
  /** … over those of a LoRA of rank 8 in f16 on the same matrices. */
  bytesVsF16Lora: number | null
  /** Tokens per second of the hoisted session over those of the plain one. */
  hoistedVsPlain: number | null
  loraVsPlain: number | null
  /** Time of a token on a 4-bit base, by what is active, over the plain session's. */
  noExpertVsPlain: number | null
  sideVsPlain: number | null
  side2VsPlain: number | null
  side4VsPlain: number | null
  inputVsPlain: number | null
  mergedFloatsVsPlain: number | null
  /** … on floats, with two ternary terms of each weight beside them, over the same base alone. */
  termsVsBase: number | null
  /** VRAM of an expert by side over 2 bits for each weight of its matrices. */
  sideBytesVs2Bits: number | null
  /** Of a line through the cost of a switch by weights. */
  linearR2: number | null
  /** Largest over smallest cost with 1 … 64 experts resident, less 1; compared round by round. */
  residentSpread: number | null
  /** Cold load of an expert over a plain fetch of the same file, on one line of 10 Mbit/s with 60 ms. */
  coldLoadVsFetch: number | null
  /** Until the first token with an f16 adapter that is fetched, over `auto` with its terms. */
  adapterVsAuto: number | null
  /** … what each adds to the base's own first token. */
  adapterVsAutoBesideBase: number | null
  /** … with the whole fine-tuned model over `auto` with its ternary file. */
  fullVsAuto: number | null
}

export interface Bar {
  ratio: keyof Ratios
  bar: number
  /** Whether the ratio has to be at least or at most that. */
  is: 'at least' | 'at most'
  says: string
  met: boolean | null
}

/** What a visitor's page would do with one fine-tuning. */
export interface Alternative {
  name: string
  wireBytes: number | null
  /** From a server without limits until usable, ms. */
  coldMs: number | null
  /** From one to another that is at hand, ms. */
  switchMs: number | null
  vramBytes: number | null
  /** … and for each more that is kept loaded. */
  vramPerMoreBytes: number | null
  exact: boolean | null
  tokensPerSecond: number | null
  note?: string
}

export interface TransferRow {
  kind: Kind
  bytes: number
  /** ms */
  host: number
  gpu: number
  apply: number
  /** By line rate in Mbit/s: network at that rate, then all stages. */
  total: Record<string, number>
}

/** One way from a request to its first token. */
export interface OpeningRow {
  way: Way
  /** That it fetches. */
  bytes: number
  ms: number
}

export interface Scaling {
  points: { x: number; ms: number; spread: number }[]
  fit: LinearFit | null
}

export interface BenchReport extends Environment {
  adapter: Adapter
  run: { runs: number; only: string; newTokens: number; model: string; line: string; largestStore: number }
  model: { weights: number; patchedWeights: number; dtype: string }
  sizes: Record<string, number>
  cases: BenchCase[]
  ratios: Ratios
  bars: Bar[]
  alternatives: Alternative[]
  transfer: { networkIs: string; rows: TransferRow[] }
  opening: { line: string; rows: OpeningRow[] }
  scaling: { weights: Scaling; density: Scaling; residents: Scaling }
  notes: Record<string, string | boolean>
  skipped: { name: string; reason: string }[]
}

const RATES = [10, 100, 1000]

/** On a software adapter; on a GPU the figure is recorded. */
const SIDE_BAR = 3.2

const BARS: readonly Omit<Bar, 'met'>[] = [
  {
    ratio: 'reloadVsSwitch',
    bar: 50,
    is: 'at least',
    says: 'what a reload of the full model adds to the first token, over a switch',
  },
  {
    ratio: 'denseVsApply',
    bar: 2,
    is: 'at least',
    says: 'adding a dense f16 delta takes so many times decode and apply',
  },
  {
    ratio: 'switchVsInTurn',
    bar: 0.75,
    is: 'at most',
    says: 'A → B in one pass over back to the base, then on to an expert',
  },
  { ratio: 'bytesVsF16Delta', bar: 1 / 40, is: 'at most', says: 'bytes of the file over its f16 delta' },
  {
    ratio: 'hoistedVsPlain',
    bar: 0.95,
    is: 'at least',
    says: 'tokens/s with hoisted weights over plain ones',
  },
  {
    ratio: 'noExpertVsPlain',
    bar: 1.05,
    is: 'at most',
    says: 'time of a token on a q4 base with no expert active over the plain one’s',
  },
  {
    ratio: 'sideVsPlain',
    bar: SIDE_BAR,
    is: 'at most',
    says: '… with one expert by side',
  },
  {
    ratio: 'termsVsBase',
    bar: 1.3,
    is: 'at most',
    says: 'time of a token with two ternary terms beside each weight over the base’s',
  },
  {
    ratio: 'sideBytesVs2Bits',
    bar: 1.05,
    is: 'at most',
    says: 'VRAM of an expert by side over 2 bits for each weight of its matrices',
  },
  { ratio: 'linearR2', bar: 0.98, is: 'at least', says: 'R² of a line through switch time by weights' },
  {
    ratio: 'residentSpread',
    bar: 0.1,
    is: 'at most',
    says: 'difference that the number of resident experts makes',
  },
  {
    ratio: 'coldLoadVsFetch',
    bar: 1.15,
    is: 'at most',
    says: 'cold load of an expert over a plain fetch, 10 Mbit/s and 60 ms',
  },
]

/** What a server puts between itself and the page. */
interface Line {
  lineBitsPerSecond: number
  latencyMs: number
}

const lineText = ({ lineBitsPerSecond, latencyMs }: Line) =>
  `${lineBitsPerSecond / 1e6} Mbit/s, ${latencyMs} ms before each answer`

export function makeReport(parts: {
  environment: Environment
  adapter: Adapter
  options: BenchOptions
  prepared: PreparedFiles
  config: PageConfig
  groups: ReadonlyMap<string, GroupResult>
  line: Line
  slow: Line
  largest: number
}): BenchReport {
  const { environment, adapter, options, prepared, config, groups, line, slow, largest } = parts
  const cases = Array.from(groups, ([group, result]) =>
    result.cases.map(({ name, unit, samples }): BenchCase => {
      const { median, spread, n } = summary(samples)
      const isTime = unit === 'ms' || unit === 'tokens/s'
      const unreliable = isTime && (n < MIN_SAMPLES || spread > UNRELIABLE_SPREAD)
      return { name, group, unit, median, spread, n, unreliable }
    }),
  ).flat()
  const notes = Object.assign({}, ...Array.from(groups.values(), (group) => group.notes))
  const skipped = [...groups.values()].flatMap((group) => group.skipped)
  const medianOf = (name: string) => cases.find((found) => found.name === name)?.median ?? null
  const scaling = {
    weights: scalingOf(cases, config.sizes, sizeCase),
    density: scalingOf(cases, config.densities, (density) => densityCase(density, config.densityWeights)),
    residents: scalingOf(cases, config.residents, residentCase),
  }
  const [a] = config.experts
  const piles = config.residents.flatMap((count) => {
    const found = [...groups.values()]
      .flatMap((group) => group.cases)
      .find(({ name }) => name === residentCase(count))
    return found === undefined ? [] : [found.samples]
  })
  const ratios = ratiosOf(medianOf, scaling, piles, config)
  return {
    ...environment,
    adapter,
    run: {
      runs: options.runs,
      only: options.only.join(', '),
      newTokens: options.newTokens,
      model: options.model.split('/').at(-1) ?? options.model,
      line: lineText(line),
      largestStore: largest,
    },
    model: {
      weights: prepared.baseWeights,
      patchedWeights: prepared.patchedWeights,
      dtype: prepared.dtype,
    },
    sizes: {
      'expert A': a.bytes,
      'f16 delta': config.peers.deltaBytes,
      'f16 LoRA r=8': config.peers.loraBytes,
      'int8 delta + gzip': config.peers.int8Bytes,
      'full model': config.peers.fullBytes,
    },
    cases,
    ratios,
    bars: BARS.map((bar) => ({ ...bar, met: isMet(ratios[bar.ratio], bar) })),
    alternatives: alternativesOf(medianOf, notes, config),
    transfer: {
      networkIs:
        'computed: bytes over the rate, without delays; host and GPU are measured, decode and apply included',
      rows: transferOf(medianOf, config),
    },
    opening: { line: lineText(slow), rows: openingOf(medianOf, config) },
    scaling,
    notes: { ...notes, 'full models and deltas': originOf(config) },
    skipped,
  }
}

function originOf({ peers }: PageConfig): string {
  return peers.origin === 'fine-tuned'
    ? 'of the checkpoints that the experts were made from'
    : 'made from the experts: the sizes are those of real ones, but the gzipped int8 delta is far too small (its zeros compress)'
}

function isMet(ratio: number | null, { bar, is }: Omit<Bar, 'met'>): boolean | null {
  if (ratio === null) return null
  return is === 'at least' ? ratio >= bar : ratio <= bar
}

type MedianOf = (name: string) => number | null

function over(x: number | null, y: number | null): number | null {
  return x === null || y === null || y === 0 ? null : x / y
}

function plus(x: number | null, y: number | null): number | null {
  return x === null || y === null ? null : x + y
}

function minus(x: number | null, y: number | null): number | null {
  return x === null || y === null ? null : x - y
}

function ratiosOf(
  medianOf: MedianOf,
  { weights }: BenchReport['scaling'],
  piles: readonly (readonly number[])[],
  { experts: [a], peers }: PageConfig,
): Ratios {
  const first = (way: Way) => medianOf(openingCase(way))
  return {
    reloadVsSwitch: over(medianOf('reload of the full model'), medianOf('resident switch A → B')),
    reloadReadyVsSwitch: over(
      medianOf('reload of the full model: session ready'),
      medianOf('resident switch A → B'),
    ),
    reloadVsSwitchToFirstToken: over(
      medianOf('reload of the full model to the first token'),
      medianOf('switch to the first token'),
    ),
    denseVsApply: over(
      medianOf('dense f16 delta on the GPU: base → A'),
      medianOf('.trit on the GPU: base → A'),
    ),
    denseVsApplyKernels: over(
      medianOf('dense f16 delta on the GPU: base → A: kernels'),
      medianOf('.trit on the GPU: base → A: kernels'),
    ),
    denseVsSwitch: over(medianOf('dense f16 delta on the GPU: A → B'), medianOf('.trit on the GPU: A → B')),
    switchVsInTurn: over(
      medianOf('resident switch A → B'),
      plus(medianOf('back to the base'), medianOf('base → A')),
    ),
    bytesVsF16Delta: over(a.bytes, peers.deltaBytes),
    bytesVsF16Lora: over(a.bytes, peers.loraBytes),
    hoistedVsPlain: over(medianOf('tokens/s, hoisted'), medianOf('tokens/s, plain')),
    loraVsPlain: over(medianOf('tokens/s, LoRA r=8 as inputs'), medianOf('tokens/s, plain')),
    noExpertVsPlain: over(medianOf('tokens/s, q4 plain'), medianOf('tokens/s, q4, no expert active')),
    sideVsPlain: over(medianOf('tokens/s, q4 plain'), medianOf('tokens/s, q4, 1 by side')),
    side2VsPlain: over(medianOf('tokens/s, q4 plain'), medianOf('tokens/s, q4, 2 by side')),
    side4VsPlain: over(medianOf('tokens/s, q4 plain'), medianOf('tokens/s, q4, 4 by side')),
    termsVsBase: over(
      medianOf('tokens/s, q4 as floats, no expert active'),
      medianOf('tokens/s, q4 as floats, 2 terms by input'),
    ),
    inputVsPlain: over(medianOf('tokens/s, q4 plain'), medianOf('tokens/s, q4, LoRA by input')),
    mergedFloatsVsPlain: over(medianOf('tokens/s, q4 plain'), medianOf('tokens/s, q4 as floats, 1 by merge')),
    sideBytesVs2Bits: over(
      medianOf('VRAM: one expert by side'),
      medianOf('VRAM: one expert by side, at 2 bits a weight'),
    ),
    linearR2: weights.fit?.r2 ?? null,
    residentSpread: piles.length < 2 ? null : spreadOf(piles),
    coldLoadVsFetch: over(
      medianOf('cold expert, 10 Mbit/s, 60 ms'),
      medianOf('plain fetch of the same file, 10 Mbit/s, 60 ms'),
    ),
    adapterVsAuto: over(first('f16 adapter by input'), first('auto, .trit of the adapter')),
    adapterVsAutoBesideBase: over(
      minus(first('f16 adapter by input'), first('base alone')),
      minus(first('auto, .trit of the adapter'), first('base alone')),
    ),
    fullVsAuto: over(first('full fine-tuning, loaded anew'), first('auto, .trit of the fine-tuning')),
  }
}

function scalingOf(
  cases: readonly BenchCase[],
  xs: readonly number[],
  nameOf: (x: number) => string,
): Scaling {
  const points = xs.flatMap((x) => {
    const found = cases.find(({ name }) => name === nameOf(x))
    return found === undefined ? [] : [{ x, ms: found.median, spread: found.spread }]
  })
  const fit =
    points.length < 3
      ? null
      : linearFit(
          points.map(({ x }) => x),
          points.map(({ ms }) => ms),
        )
  return { points, fit }
}

function alternativesOf(
  medianOf: MedianOf,
  notes: GroupResult['notes'],
  { experts: [a], peers, residents }: PageConfig,
): Alternative[] {
  const sum = (...names: string[]) => {
    const found = names.map(medianOf)
    return found.some((value) => value === null) ? null : (found as number[]).reduce((x, y) => x + y, 0)
  }
  const flag = (name: string) => (typeof notes[name] === 'boolean' ? (notes[name] as boolean) : null)
  const [first, last] = [residents[0], residents.at(-1)!]
  const [vramFirst, vramLast] = [medianOf(`VRAM: ${first} resident`), medianOf(`VRAM: ${last} resident`)]
  const stagesOf = (kind: Kind) => sum(...STAGES.map((stage) => stageCase(kind, stage)))
  const vramModel = medianOf('VRAM: one full model')
  const vramBase = medianOf('VRAM: base')
  const withBase = (extra: number | null) => (extra === null || vramBase === null ? null : vramBase + extra)
  return [
    {
      name: '.trit expert, merged in place',
      wireBytes: a.bytes,
      coldMs: medianOf('cold expert, unthrottled'),
      switchMs: medianOf('resident switch A → B'),
      vramBytes: withBase(sum('VRAM: journal of one active expert', `VRAM: ${first} resident`)),
      vramPerMoreBytes:
        vramFirst === null || vramLast === null || last === first
          ? null
          : (vramLast - vramFirst) / (last - first),
      exact: flag('.trit: going back is exact'),
      tokensPerSecond: medianOf('tokens/s, hoisted, 1 expert merged'),
    },
    {
      name: '(a) the full model, disposed of and reloaded from the browser’s cache',
      wireBytes: peers.fullBytes,
      coldMs: medianOf('cold load of the full model, unthrottled'),
      switchMs: medianOf('reload of the full model'),
      vramBytes: vramModel,
      vramPerMoreBytes: minus(medianOf('VRAM: two full models'), vramModel),
      exact: true,
      tokensPerSecond: medianOf('tokens/s, plain'),
      note: 'exact because it is loaded again; buffers as onnxruntime-web asked for them',
    },
    {
      name: '(b) dense f16 delta, added on the GPU',
      wireBytes: peers.deltaBytes,
      coldMs: stagesOf('f16 delta'),
      switchMs: medianOf('dense f16 delta on the GPU: A → B'),
      vramBytes: withBase(medianOf('VRAM: dense f16 delta')),
      vramPerMoreBytes: medianOf('VRAM: dense f16 delta'),
      exact: flag('dense f16 delta: going back is exact'),
      tokensPerSecond: medianOf('tokens/s, hoisted'),
      note: 'cold time without its transfer; needs hoisted weights as well',
    },
    {
      name: '(c) uncompressed LoRA r=8, A and B fed as inputs',
      wireBytes: peers.loraBytes,
      coldMs: stagesOf('f16 LoRA'),
      switchMs: medianOf('LoRA as inputs: A → B'),
      vramBytes: withBase(medianOf('VRAM: f16 LoRA factors')),
      vramPerMoreBytes: medianOf('VRAM: f16 LoRA factors'),
      exact: flag('f16 LoRA: going back is exact'),
      tokensPerSecond: medianOf('tokens/s, LoRA r=8 as inputs'),
      note: 'cold time without its transfer; another graph, and less of the fine-tuning (see docs/RULES.md)',
    },
    {
      name: '(d) LoraAdapter of onnxruntime-web',
      wireBytes: null,
      coldMs: null,
      switchMs: null,
      vramBytes: null,
      vramPerMoreBytes: null,
      exact: null,
      tokensPerSecond: null,
      note: `skipped: ${notes.LoraAdapter ?? 'not looked for in this run'}`,
    },
  ]
}

function transferOf(medianOf: MedianOf, { experts: [a], peers }: PageConfig): TransferRow[] {
  const bytes: Record<Kind, number> = {
    '.trit': a.bytes,
    'f16 delta': peers.deltaBytes,
    'int8 delta + gzip': peers.int8Bytes,
    'f16 LoRA': peers.loraBytes,
  }
  return KINDS.flatMap((kind) => {
    const [host, gpu, apply] = STAGES.map((stage) => medianOf(stageCase(kind, stage)))
    if (host === null || gpu === null || apply === null) return []
    const total = Object.fromEntries(
      RATES.map((rate) => [rate, (8 * bytes[kind]) / (rate * 1000) + host + gpu + apply]),
    )
    return [{ kind, bytes: bytes[kind], host, gpu, apply, total }]
  })
}

function openingOf(medianOf: MedianOf, { opening, peers }: PageConfig): OpeningRow[] {
  const { adapter, tuned, f16 } = opening
  const bytes: Record<Way, number> = {
    'base alone': 0,
    'auto, .trit of the adapter': adapter.bytes,
    'the same, its list not yet here': adapter.bytes + adapter.listBytes,
    'auto, .trit of the fine-tuning': tuned.bytes,
    'f16 adapter by input': f16.bytes,
    'full fine-tuning, loaded anew': peers.fullBytes,
  }
  return WAYS.flatMap((way) => {
    const ms = medianOf(openingCase(way))
    return ms === null ? [] : [{ way, bytes: bytes[way], ms }]
  })
}
