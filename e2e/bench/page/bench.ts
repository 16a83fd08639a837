import type { GroupResult, PageCase, PageConfig, Unit } from '../protocol.ts'

/** Samples of one run, by the name of their case. */
export type Samples = Readonly<Record<string, number>>

/** Something to be timed. One bench may fill several cases: phases of the same run. */
export interface Bench<S> {
  /** Names of its cases. */
  cases: readonly string[]
  unit: Unit
  /** Of the runs asked for: less than 1 where one run takes long, more where it takes next to nothing. */
  share?: number
  /** Once, before the warm-up. */
  setup?: (state: S) => Promise<void> | void
  /** Before each run; not timed. */
  before?: (state: S) => Promise<void> | void
  bench: (state: S) => Promise<Samples>
  teardown?: (state: S) => Promise<void> | void
}

/** Figures that one look gives: bytes, counts. */
export interface Facts<S> {
  cases: readonly string[]
  unit: Unit
  look: (state: S, notes: GroupResult['notes']) => Promise<Samples> | Samples
}

/** Benches that share a state and take turns, so that whatever slows one down slows the others. */
export interface Group<S> {
  name: string
  /** Why it cannot run with these files, if it cannot. */
  unavailable?: (config: PageConfig) => string | undefined
  open: (config: PageConfig) => Promise<S>
  benches: (config: PageConfig) => readonly Bench<S>[]
  /** After the runs. */
  facts?: (config: PageConfig) => readonly Facts<S>[]
  close: (state: S) => Promise<void>
}

const MIN_RUNS = 3

export function caseNames<S>(group: Group<S>, config: PageConfig): string[] {
  return [...group.benches(config), ...(group.facts?.(config) ?? [])].flatMap(({ cases }) => cases)
}

/**
 * Runs the benches of a group in turns: one warm-up round that does not count, then rounds whose order alternates.
 * @param wanted - names of cases; benches without any are left out
 */
export async function runGroup<S>(
  group: Group<S>,
  config: PageConfig,
  runs: number,
  wanted: ReadonlySet<string>,
  say: (stage: string, bench: string) => void,
): Promise<GroupResult> {
  const isWanted = ({ cases }: { cases: readonly string[] }) => cases.some((name) => wanted.has(name))
  const benches = group.benches(config).filter(isWanted)
  const facts = (group.facts?.(config) ?? []).filter(isWanted)
  const found = new Map<string, PageCase>()
  const result: GroupResult = { cases: [], notes: {}, skipped: [] }
  const add = (samples: Samples, unit: Unit) => {
    for (const [name, value] of Object.entries(samples)) {
      const entry = found.get(name) ?? { name, unit, samples: [] }
      entry.samples.push(value)
      found.set(name, entry)
    }
  }
  const runsOf = ({ share = 1 }: Bench<S>) => Math.max(Math.min(MIN_RUNS, runs), Math.ceil(runs * share))

  const reason = group.unavailable?.(config)
  if (reason !== undefined) {
    result.skipped = Array.from(wanted, (name) => ({ name, reason }))
    return result
  }
  const state = await group.open(config)
  const open: Bench<S>[] = []
  try {
    for (const bench of benches) {
      say('setup', bench.cases[0])
      await bench.setup?.(state)
      open.push(bench)
    }
    const rounds = Math.max(...benches.map(runsOf))
    for (let round = -1; round < rounds; round++) {
      for (const bench of round % 2 === 0 ? benches : [...benches].reverse()) {
        if (round >= runsOf(bench)) continue
        say(round < 0 ? 'warm-up' : `run ${round + 1} of ${rounds}`, bench.cases[0])
        await bench.before?.(state)
        const samples = await bench.bench(state)
        if (round >= 0) add(samples, bench.unit)
      }
    }
    for (const { look, unit, cases } of facts) {
      say('single figures', cases[0])
      add(await look(state, result.notes), unit)
    }
  } finally {
    for (const bench of open.reverse()) await bench.teardown?.(state)
    await group.close(state)
  }
  result.cases = [...found.values()].filter(({ name }) => wanted.has(name))
  return result
}

/** Milliseconds that a task takes. */
export async function timed(task: () => Promise<unknown>): Promise<number> {
  const from = performance.now()
  await task()
  return performance.now() - from
}
