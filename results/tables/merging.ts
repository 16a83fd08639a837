/** (e) Several experts in one, of compressed and of uncompressed ones. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { withExpertFiles } from '../../src/cli/open_experts.ts'
import type { Estimate } from '../../src/cli/scores.ts'
import { expertSum } from '../../src/cli/variants.ts'
import { mergeExperts } from '../../src/compress/merge.ts'
import { MERGE_METHODS, type MergeMethod } from '../../src/compress/merged_values.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { memorySpool } from '../../src/format/writer.ts'
import { drawn } from '../chart.ts'
import { type DemoBench, VALID } from '../demo.ts'
import { makeAdapter, makeFull, UNCOMPRESSED } from '../make.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Figures, Store } from '../store.ts'
import { hasAll, markdown, meanOf, NOT_YET, percent } from '../text.ts'

const EXPERTS = ['austen', 'bard', 'css', 'fairy', 'holmes', 'scripture'] as const
/** What sums are multiplied with, to be chosen on `VALID`. */
const WEIGHTS = [0.2, 0.4, 0.7] as const
const TEST = { from: 0, count: 2 }

export function demoRows(benches: Benches): Row[] {
  const made = new Map<string, Promise<string[]>>()
  const files = (bench: DemoBench, form: string) => {
    const known =
      made.get(form) ??
      Promise.all(
        EXPERTS.map(async (expert) => {
          if (form === 'compressed')
            return join(import.meta.dirname, '../../public/experts', `${expert}.trit`)
          const path = bench.scratch(`${expert}.trit`)
          await makeFull(bench.base, bench.finetuned(expert), UNCOMPRESSED, path)
          return path
        }),
      )
    made.set(form, known)
    return known
  }
  const merged = async (bench: DemoBench, form: string, method: MergeMethod, weight: number) => {
    const paths = await files(bench, form)
    const out = bench.scratch('merged.trit')
    await withExpertFiles(paths, async (experts) => {
      const spool = memorySpool()
      const weights = paths.map(() => weight)
      // What merging does is measured, not what compressing the result again does.
      const { head } = await mergeExperts(
        experts,
        { method, weights, dense: true, denseDtype: 'f32' },
        { spool },
      )
      await writeFile(out, spool.join(head))
    })
    return out
  }
  const all = async (bench: DemoBench, path: string, range: typeof TEST) => {
    const gains: Estimate[] = []
    for (const expert of EXPERTS) gains.push((await bench.expert(expert, path, 1, range)).gain as Estimate)
    return {
      ...Object.fromEntries(EXPERTS.map((expert, i) => [expert, gains[i]])),
      gain: {
        value: gains.reduce((sum, { value }) => sum + value, 0) / gains.length,
        se: Math.sqrt(gains.reduce((sum, { se }) => sum + se * se, 0)) / gains.length,
      },
    }
  }
  const rows: Row[] = []
  for (const form of ['uncompressed', 'compressed']) {
    for (const method of MERGE_METHODS) {
      const weights = method === 'average' ? [1] : WEIGHTS
      if (weights.length > 1) {
        for (const weight of weights) {
          rows.push({
            key: `valid ${form} ${method} ${weight}`,
            async measure() {
              const bench = await benches.demo()
              return all(bench, await merged(bench, form, method, weight), { ...VALID, count: 1 })
            },
          })
        }
      }
      rows.push({
        key: `test ${form} ${method}`,
        async measure(kept) {
          const bench = await benches.demo()
          const gainOf = (weight: number) => kept.estimate(`valid ${form} ${method} ${weight}`, 'gain').value
          const weight =
            weights.length === 1
              ? weights[0]
              : weights.reduce<number>(
                  (best, other) => (gainOf(other) > gainOf(best) ? other : best),
                  weights[0],
                )
          return { ...(await all(bench, await merged(bench, form, method, weight), TEST)), weight }
        },
      })
    }
    rows.push({
      key: `test ${form} alone`,
      async measure() {
        const bench = await benches.demo()
        const paths = await files(bench, form)
        const figures: Record<string, Estimate> = {}
        for (const [i, expert] of EXPERTS.entries())
          figures[expert] = (await bench.expert(expert, paths[i], 1, TEST)).gain as Estimate
        const gains = Object.values(figures)
        return {
          ...figures,
          gain: {
            value: gains.reduce((sum, { value }) => sum + value, 0) / gains.length,
            se: Math.sqrt(gains.reduce((sum, { se }) => sum + se * se, 0)) / gains.length,
          },
        }
      },
    })
  }
  return rows
}

/** LoRA of two of the writers (r = 8), trained apart. */
const LORAS = ['bard', 'css'] as const
const LORA_FORMS: Record<string, RuleOptions> = {
  uncompressed: UNCOMPRESSED,
  'factors 20 %': { codec: 'ternary', density: 0.2 },
  '4 terms': { terms: 4 },
}
const LORA_WEIGHTS = [0.5, 0.7, 1] as const

/**
 * Both adapters active at once, each at a weight: the sum of their products. And the factors merged entry by entry, as ComPEFT and
 * LoraHub do, where the files hold factors.
 */
export function loraRows(benches: Benches): Row[] {
  const made = new Map<string, Promise<string>>()
  const once = (key: string, make: () => Promise<string>) => {
    const found = made.get(key) ?? make()
    made.set(key, found)
    return found
  }
  const path = (bench: DemoBench, expert: string, form: string) =>
    once(`${expert} ${form}`, async () => {
      const path = bench.scratch(`${expert}.trit`)
      await makeAdapter(bench.base, join(bench.source, 'peft', expert, 'lora8'), LORA_FORMS[form], path)
      return path
    })
  const paths = (bench: DemoBench, form: string) =>
    Promise.all(LORAS.map((expert) => path(bench, expert, form)))
  const ofFactors = (bench: DemoBench, form: string, method: MergeMethod) =>
    once(`${form} ${method}`, async () => {
      const out = bench.scratch('merged.trit')
      await withExpertFiles(await paths(bench, form), async (experts) => {
        const spool = memorySpool()
        const { head } = await mergeExperts(experts, { method, dense: true, denseDtype: 'f32' }, { spool })
        await writeFile(out, spool.join(head))
      })
      return out
    })
  const both = async (measure: (expert: string) => Promise<Figures>) => {
    const gains = await inOrder(LORAS, async (expert) => (await measure(expert)).gain as Estimate)
    return { ...Object.fromEntries(LORAS.map((expert, i) => [expert, gains[i]])), gain: meanOf(gains) }
  }
  const rows: Row[] = []
  for (const form of Object.keys(LORA_FORMS)) {
    rows.push({
      key: `LoRA alone ${form}`,
      async measure() {
        const bench = await benches.demo()
        return both(async (expert) => bench.expert(expert, await path(bench, expert, form), 1, TEST))
      },
    })
    const summed = async (weight: number, range: typeof TEST) => {
      const bench = await benches.demo()
      const files = await paths(bench, form)
      const sum = await expertSum(bench.evaluation.base, files)
      try {
        const change = sum.change(LORAS.map(() => weight))
        return await both((expert) => bench.figures(expert, { change }, range))
      } finally {
        await sum.close()
      }
    }
    for (const weight of LORA_WEIGHTS)
      rows.push({
        key: `LoRA valid ${form} ${weight}`,
        measure: () => summed(weight, { ...VALID, count: 1 }),
      })
    rows.push({
      key: `LoRA sum ${form}`,
      async measure(kept) {
        const at = (weight: number) => kept.estimate(`LoRA valid ${form} ${weight}`, 'gain').value
        const weight = LORA_WEIGHTS.reduce<number>((a, b) => (at(b) > at(a) ? b : a), LORA_WEIGHTS[0])
        return { ...(await summed(weight, TEST)), weight }
      },
    })
    if (form === '4 terms') continue
    for (const method of ['average', 'ties'] as const) {
      rows.push({
        key: `LoRA factors ${method} ${form}`,
        async measure() {
          const bench = await benches.demo()
          const merged = await ofFactors(bench, form, method)
          return both((expert) => bench.expert(expert, merged, 1, TEST))
        },
      })
    }
  }
  return rows
}

async function inOrder<T, R>(items: readonly T[], each: (item: T) => Promise<R>): Promise<R[]> {
  const found: R[] = []
  for (const item of items) found.push(await each(item))
  return found
}

/** The table of two LoRA in one, and what it says. */
function loraText(kept: Store): string {
  const forms = Object.keys(LORA_FORMS)
  const line = (label: string, key: string) => {
    if (kept.get(key) === undefined) return [label, 'not run', '', '']
    const weight = kept.get(key)?.weight
    return [
      typeof weight === 'number' ? `${label} (weight ${weight} each)` : label,
      percent(kept.estimate(key, 'gain')),
      ...LORAS.map((expert) => percent(kept.estimate(key, expert))),
    ]
  }
  const lines = forms.flatMap((form) => [
    line(`each alone, ${form}`, `LoRA alone ${form}`),
    line(`sum of products, ${form}`, `LoRA sum ${form}`),
    ...(form === '4 terms'
      ? []
      : ['average', 'ties'].map((method) =>
          line(`factors merged by ${method}, ${form}`, `LoRA factors ${method} ${form}`),
        )),
  ])
  const isDone = hasAll(
    kept,
    forms.flatMap((form) => [`LoRA alone ${form}`, `LoRA sum ${form}`]),
  )
  return `LoRA of rank 8 of two writers, in one: both active at once, which sums their products (weights chosen on other windows among ${LORA_WEIGHTS.join(', ')}), or
their factors merged entry by entry.

${markdown(['', 'mean', ...LORAS], lines)}

${isDone ? loraClaims(kept) : NOT_YET}`
}

function loraClaims(kept: Store): string {
  const gain = (key: string) => kept.estimate(key, 'gain')
  const [whole, terms] = ['uncompressed', '4 terms'].map((form) => gain(`LoRA sum ${form}`))
  const said =
    terms.value - whole.value > 2 * Math.hypot(terms.se, whole.se)
      ? 'is better than'
      : whole.value - terms.value > 2 * Math.hypot(terms.se, whole.se)
        ? 'is worse than'
        : 'is within two standard errors of'
  return `- The sum of compressed adapters (4 terms, the default: ${percent(terms)} %) ${said} that of uncompressed ones (${percent(whole)} %).`
}

export function mergingPage(kept: Store): Page {
  const ways = [...MERGE_METHODS, 'alone']
  const lines = ['uncompressed', 'compressed'].flatMap((form) =>
    ways.map((way) => {
      const key = `test ${form} ${way}`
      if (kept.get(key) === undefined) return [`${way}, ${form}`, 'not run', ...EXPERTS.map(() => '')]
      const weight = kept.get(key)?.weight
      return [
        `${way === 'alone' ? 'each alone' : way}, ${form}${typeof weight === 'number' && weight !== 1 ? ` (weight ${weight})` : ''}`,
        percent(kept.estimate(key, 'gain')),
        ...EXPERTS.map((expert) => (100 * kept.estimate(key, expert).value).toFixed(0)),
      ]
    }),
  )
  const keys = ['uncompressed', 'compressed'].flatMap((form) =>
    MERGE_METHODS.map((method) => `test ${form} ${method}`),
  )
  const gain = (form: string, method: string) => kept.estimate(`test ${form} ${method}`, 'gain')
  const better = hasAll(kept, keys)
    ? MERGE_METHODS.filter((method) => gain('compressed', method).value > gain('uncompressed', method).value)
    : []
  return {
    title: '(e) Six writers in one',
    text: `
All six bundled fine-tunings of the demo base merged into one set of weights, which then reads each of the six texts (${TEST.count} windows each). Cells: share of each
fine-tuning's own gain, %. Weights of sums are chosen on other windows (${WEIGHTS.join(', ')}). What is merged is not compressed again.

${markdown(['', 'mean', ...EXPERTS], lines)}

${hasAll(kept, keys) ? claims(kept, better) : NOT_YET}

${loraText(kept)}
`,
    charts: {
      'merging.svg': drawn({
        title: 'Mean share of the gains kept, six experts in one',
        x: {
          title: '',
          ticks: [0.5, 1, 2, 3, 4, 4.5],
          format: (x) => ways[x - 1] ?? '',
        },
        y: { title: 'gain kept, %', ticks: [-20, 0, 20, 40, 60, 80, 100] },
        series: ['uncompressed', 'compressed'].map((form) => ({
          name: form,
          points: ways.flatMap((way, i) => {
            const key = `test ${form} ${way}`
            if (kept.get(key) === undefined) return []
            const { value, se } = kept.estimate(key, 'gain')
            return [{ x: i + 1 + (form === 'compressed' ? 0.1 : -0.1), y: 100 * value, se: 100 * se }]
          }),
        })),
      }),
    },
  }
}

function claims(kept: Store, better: readonly string[]): string {
  return `- The paper finds merging better with compressed experts than with uncompressed ones in 9 of 12 cases. Here it is in ${better.length} of ${MERGE_METHODS.length}${better.length > 0 ? ` (${better.join(', ')})` : ''}:
  ${better.length >= 2 ? '**confirmed**' : '**contradicted**'}, as far as the standard errors beside them allow.
- No merge comes near to switching: each alone keeps ${kept.get('test compressed alone') === undefined ? 'its gain' : `${percent(kept.estimate('test compressed alone', 'gain'))} % of its gain as a file`}, and a switch takes place between two tokens.`
}
