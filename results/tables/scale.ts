/** (d) What is kept at each size, from the tables before it and from the scores that the registries hold. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Estimate } from '../../src/cli/scores.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { drawn, type Point, sized } from '../chart.ts'
import { f16Bytes, makeFull, UNCOMPRESSED } from '../make.ts'
import { ASSERTION, WIDTHS } from '../models.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Store } from '../store.ts'
import { hasAll, markdown, NOT_YET, percent, threeOf } from '../text.ts'

const EXPERTS = join(import.meta.dirname, '../../public/experts')

const WAYS: Record<string, RuleOptions> = {
  f16: UNCOMPRESSED,
  '5 %': { density: 0.05 },
  '20 %': { density: 0.2 },
}

/** One recipe at three sizes: the encoder of (h). */
export function scaleRows(benches: Benches): Row[] {
  return WIDTHS.filter((width) => existsSync(ASSERTION.full(width))).flatMap((width) => [
    {
      key: `${width} base`,
      isQuick: true,
      async measure() {
        const bench = await benches.assertion('test', width)
        const weights = [...bench.model.weights.tensors.values()].reduce((sum, { length }) => sum + length, 0)
        return { ...(await bench.figures(new Map())), weights }
      },
    },
    ...Object.entries(WAYS).map(([way, options]) => ({
      key: `${width} ${way}`,
      isQuick: true,
      async measure() {
        const bench = await benches.assertion('test', width)
        const path = bench.scratch('full.trit')
        const bytes = await makeFull(bench.base, ASSERTION.full(width), options, path)
        return {
          ...(await bench.expert(path)),
          bytes: way === 'f16' ? await f16Bytes(ASSERTION.full(width)) : bytes,
        }
      },
    })),
  ])
}

interface Entry {
  id: string
  method: string
  bytes: number
  replaces: { f16Delta: number; f16Lora?: number }
  scores?: {
    base: number
    adapter: number
    expert: number
    n: number
    standardError: { adapter: number; expert: number }
  }
  quality?: { gainKept: number; agreement: number; windows: number }
}

function entriesOf(path: string): Entry[] {
  return (JSON.parse(readFileSync(join(EXPERTS, path), 'utf8')) as { experts: Entry[] }).experts
}

export function scalePage(kept: Store): Page {
  const skills = entriesOf('smollm2/experts.json').flatMap(({ scores, ...rest }) =>
    scores === undefined ? [] : [{ ...rest, scores }],
  )
  const writers = entriesOf('experts.json').flatMap(({ quality, ...rest }) =>
    quality === undefined ? [] : [{ ...rest, quality }],
  )
  const points: (Point & { series: string })[] = [
    ...writers.map(({ id, quality }) => ({
      ...{ x: 5.5e6, y: 100 * quality.gainKept, label: id.includes('distilled') ? undefined : id },
      series: 'writers, share of the gain',
    })),
    ...skills.map(({ id, method, scores }) => ({
      ...{ x: 135e6, y: (100 * scores.expert) / scores.adapter, label: id },
      se: (100 * Math.hypot(scores.standardError.adapter, scores.standardError.expert)) / scores.adapter,
      series: method === 'lora' ? 'LoRA skills, share of exact answers' : 'full, share of exact answers',
    })),
  ]
  const isDone = hasAll(
    kept,
    WIDTHS.flatMap((width) => ['base', ...Object.keys(WAYS)].map((way) => `${width} ${way}`)),
  )
  for (const width of isDone ? WIDTHS : []) {
    for (const way of ['5 %', '20 %']) {
      const { value, se } = shareKept(kept, width, way)
      points.push({
        ...{ x: kept.number(`${width} base`, 'weights'), y: 100 * value, se: 100 * se },
        series: `encoder, k = ${way}, share of the gain`,
      })
    }
  }
  return {
    title: '(d) Does it get better with scale?',
    text: `
One recipe at three sizes: the encoder of (h), ${WIDTHS.join(', ')} wide, pretrained and fine-tuned on the same sentences with the same settings. Cells: accuracy, % / agreement with the
uncompressed fine-tuning, % / KL, bits, on 400 test sentences.

${markdown(
  ['weights', 'base', 'f16', 'k = 5 %', 'k = 20 %', 'gain kept at 5 %, %', 'at 20 %, %'],
  isDone
    ? WIDTHS.map((width) => [
        `${(kept.number(`${width} base`, 'weights') / 1e6).toFixed(2)} M`,
        percent(kept.estimate(`${width} base`, 'exact')),
        percent(kept.estimate(`${width} f16`, 'exact')),
        ...['5 %', '20 %'].map((way) => threeOf(kept, `${width} ${way}`, 'exact')),
        ...['5 %', '20 %'].map((way) => percent(shareKept(kept, width, way))),
      ])
    : [['not run', '', '', '', '', '', '']],
)}

${isDone ? claims(kept) : NOT_YET}

What the bundled files keep, from the registries of the demo base (5.5 M weights; \`npm run eval\`, ${writers[0].quality.windows} windows) and of SmolLM2-135M-Instruct (135 M; exact answers counted in torch
with the decoded files by \`authoring/exact_match.py\`, on requests that are not in the repository):

${markdown(
  ['SmolLM2-135M-Instruct', 'file', 'smaller than its f16', 'uncompressed, %', 'the file, %', 'requests'],
  skills.map(({ id, method, bytes, replaces, scores }) => [
    `${id}${method === 'lora' ? '' : ' (full fine-tuning)'}`,
    sized(bytes),
    `${((method === 'lora' ? replaces.f16Lora! : replaces.f16Delta) / bytes).toFixed(0)} ×`,
    percent({ value: scores.adapter, se: scores.standardError.adapter }),
    percent({ value: scores.expert, se: scores.standardError.expert }),
    String(scores.n),
  ]),
)}

${markdown(
  ['demo base', 'file', 'smaller than its f16', 'gain kept, %', 'agreement, %'],
  writers.map(({ id, bytes, replaces, quality }) => [
    id,
    sized(bytes),
    `${(replaces.f16Delta / bytes).toFixed(0)} ×`,
    (100 * quality.gainKept).toFixed(1),
    (100 * quality.agreement).toFixed(1),
  ]),
)}

- These differ in task, recipe and measure, so that they say nothing of scale: at 135 M the skills keep their answers within two standard errors or a few points of them;
  at 5.5 M a tenth of the gain is lost at 25 to 46 times.
- The α that a size wants, which the paper sees fall with scale, does not arise with the unbiased scale of our rule: it is 1 for all of these, or their scales were learned.
`,
    charts: {
      'scale.svg': drawn({
        title: 'What is kept, by the size of the base',
        x: {
          title: 'weights of the base',
          ticks: [2e4, 1e5, 1e6, 1e7, 1e8, 2e8],
          isLog: true,
          format: (x) => (x < 1e5 || x > 1e8 ? '' : `${x / 1e6} M`),
        },
        y: { title: 'kept, %', ticks: [60, 70, 80, 90, 100, 110] },
        series: [...new Set(points.map(({ series }) => series))].map((name) => ({
          name,
          points: points.filter(({ series }) => series === name),
        })),
      }),
    },
  }
}

/** Share of the fine-tuning's gain in accuracy over the base. */
function shareKept(kept: Store, width: number, way: string): Estimate {
  const exact = (of: string) => kept.estimate(`${width} ${of}`, 'exact').value
  const gain = exact('f16') - exact('base')
  // The difference to the fine-tuning is of pairs; the gain is much larger than its own error.
  const { value, se } = kept.estimate(`${width} ${way}`, 'difference')
  return { value: 1 + value / gain, se: se / gain }
}

function claims(kept: Store): string {
  const at = (way: string) => WIDTHS.map((width) => shareKept(kept, width, way))
  const klAt = (way: string) => WIDTHS.map((width) => kept.estimate(`${width} ${way}`, 'kl').value)
  const grows = (values: readonly number[]) => values.every((value, i) => i === 0 || value > values[i - 1])
  const [small, , large] = at('5 %')
  const difference = large.value - small.value
  const error = Math.hypot(small.se, large.se)
  const said =
    Math.abs(difference) < 2 * error ? '**not shown**' : difference > 0 ? '**confirmed**' : '**contradicted**'
  return `- The paper says that larger models lose less. From the smallest to the largest of these three the share kept at 5 % changes by ${(100 * difference).toFixed(1)} ± ${(100 * error).toFixed(1)} points: ${said} by accuracy.
  By KL it ${grows(klAt('5 %').map((value) => -value)) && grows(klAt('20 %').map((value) => -value)) ? 'holds at both densities' : 'does not hold at both densities'} (${klAt(
    '5 %',
  )
    .map((value) => value.toFixed(3))
    .join(', ')} bits at 5 %, ${klAt('20 %')
    .map((value) => value.toFixed(3))
    .join(', ')} at 20 %). All three are far smaller than the paper's.`
}
