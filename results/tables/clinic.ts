/**
 * (f), (h), (j) and a part of (e): five clinical tasks as skills of one encoder–decoder: alone, routed, merged and composed.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseLabelled } from '../../src/cli/labels.ts'
import { withExpertFiles } from '../../src/cli/open_experts.ts'
import { mergeExperts } from '../../src/compress/merge.ts'
import { MERGE_METHODS } from '../../src/compress/merged_values.ts'
import { memorySpool } from '../../src/format/writer.ts'
import { composeWeights } from '../../src/model/compose.ts'
import { routeAmong } from '../../src/route/route.ts'
import { drawn } from '../chart.ts'
import { CLINIC } from '../models.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Store } from '../store.ts'
import { draws } from '../task.ts'
import { hasAll, markdown, meanOf, NOT_YET, number, overDraws, percent } from '../text.ts'

const TASKS = CLINIC.tasks
/** Draws of examples for (f). */
const DRAWS = [0, 1] as const
const EXAMPLES = 5
const EVALUATIONS = 30

export function clinicRows(benches: Benches): Row[] {
  return [...aloneRows(benches), routeRow(), ...mergedRows(benches), ...composedRows(benches)].map((row) => ({
    ...row,
    isQuick: true,
  }))
}

/** The base and the skill of each task on its requests. */
function aloneRows(benches: Benches): Row[] {
  return TASKS.flatMap((task) => [
    {
      key: `${task} by base`,
      measure: async () => (await benches.clinic(task)).figures(new Map()),
    },
    {
      key: `${task} by ${task}`,
      async measure() {
        const path = CLINIC.expert(task)
        return { ...(await (await benches.clinic(task)).expert(path)), bytes: readFileSync(path).length }
      },
    },
  ])
}

/** Which skill the router chooses for requests of each task, by the requests that choices are made on. */
function routeRow(): Row {
  return {
    key: 'routed',
    async measure() {
      const textsOf = (task: string, split: 'valid' | 'test') => {
        const path = CLINIC.labels(task, split)
        return parseLabelled(readFileSync(path, 'utf8'), path).map(({ text }) => text)
      }
      const experts = TASKS.map((id) => ({ id, samples: textsOf(id, 'valid') }))
      const found: Record<string, { value: number; se: number }> = {}
      for (const task of TASKS) {
        const texts = textsOf(task, 'test')
        // Only among the skills: none of these requests is for the base.
        const right = texts.filter((text) => routeAmong(text, experts, -2).chosen?.id === task).length
        const value = right / texts.length
        found[task] = { value, se: Math.sqrt((value * (1 - value)) / texts.length) }
      }
      return found
    },
  }
}

function mergedRows(benches: Benches): Row[] {
  return MERGE_METHODS.flatMap((method) =>
    TASKS.map((task) => ({
      key: `${task} by ${method}`,
      async measure() {
        const bench = await benches.clinic(task)
        const path = bench.scratch('merged.trit')
        await withExpertFiles(TASKS.map(CLINIC.expert), async (experts) => {
          const spool = memorySpool()
          const options = { method, weights: TASKS.map(() => (method === 'task-arithmetic' ? 0.4 : 1)) }
          const { head } = await mergeExperts(
            experts,
            { ...options, dense: true, denseDtype: 'f32' },
            { spool },
          )
          await writeFile(path, spool.join(head))
        })
        return bench.expert(path)
      },
    })),
  )
}

/** Weights for all skills but the task's own, found on five examples of it. */
function composedRows(benches: Benches): Row[] {
  return TASKS.flatMap((task) =>
    [true, false].flatMap((isWithOwn) =>
      DRAWS.map((draw) => ({
        key: `composed ${task} ${isWithOwn ? 'with' : 'without'} own ${draw}`,
        async measure() {
          const bench = await benches.clinic(task)
          const path = CLINIC.labels(task, 'valid')
          const valid = parseLabelled(readFileSync(path, 'utf8'), path)
          const random = draws(draw + 1)
          const few = Array.from({ length: EXAMPLES }, () => valid[Math.floor(random() * valid.length)])
          const examples = few.map((one) => bench.model.example(one))
          const names = TASKS.filter((other) => isWithOwn || other !== task)
          const admitted = await Promise.all(names.map((name) => bench.model.admit(CLINIC.expert(name))))
          const bound = (weights: readonly number[]) => {
            const used = admitted.filter((_, i) => weights[i] !== 0)
            return bench.model.bind(
              used,
              weights.filter((weight) => weight !== 0),
            )
          }
          const composition = await composeWeights(
            names.length,
            async (weights) => bench.model.score(examples, await bound(weights)),
            { evaluations: EVALUATIONS },
          )
          const { candidates, gain } = composition
          const single = candidates
            .filter(({ name }) => name === 'alone')
            .reduce((best, one) => (one.bitsPerToken < best.bitsPerToken ? one : best))
          const composed = candidates.at(-1)!
          const figuresOf = async (weights: readonly number[]) =>
            bench.figures((await bound(weights)).changed)
          const onTest = {
            single: await figuresOf(single.weights),
            composed: await figuresOf(composed.weights),
          }
          const won =
            [onTest.single, onTest.composed][
              [single.weights, composed.weights].indexOf(composition.weights)
            ] ?? (await figuresOf(composition.weights))
          return {
            won: composition.name,
            gain,
            nothing: candidates[0].bitsPerToken,
            single: single.bitsPerToken,
            average: candidates.find(({ name }) => name === 'average')!.bitsPerToken,
            composed: composed.bitsPerToken,
            'exact single': onTest.single.exact,
            'exact composed': onTest.composed.exact,
            'exact won': won.exact,
            'bits single': onTest.single.bits,
            'bits composed': onTest.composed.bits,
            weights: composed.weights.join(' '),
          }
        },
      })),
    ),
  )
}

export function clinicPage(kept: Store): Page {
  const exact = (key: string) =>
    kept.get(key) === undefined ? 'not run' : percent(kept.estimate(key, 'exact'))
  const alone = (task: string) => kept.estimate(`${task} by ${task}`, 'exact')
  const isDone = hasAll(kept, ['routed', ...TASKS.map((task) => `${task} by ${task}`)])
  const routed = isDone
    ? TASKS.map((task) => {
        // A request that goes to another skill is answered by it; what that gives is in the table of all by all.
        const right = kept.estimate('routed', task)
        return { task, value: right.value * alone(task).value }
      })
    : []
  const runs = (isWithOwn: boolean) =>
    TASKS.flatMap((task) =>
      DRAWS.map((draw) => `composed ${task} ${isWithOwn ? 'with' : 'without'} own ${draw}`).filter(
        (key) => kept.get(key) !== undefined,
      ),
    )
  const isComposed = [true, false].every(
    (isWithOwn) => runs(isWithOwn).length === TASKS.length * DRAWS.length,
  )
  const composed = [true, false].map((isWithOwn) => {
    const keys = runs(isWithOwn)
    if (keys.length === 0)
      return [
        isWithOwn ? 'its own skill among them' : 'without its own skill',
        'not run',
        ...Array(6).fill(''),
      ]
    const difference = overDraws(
      keys.map((key) => kept.estimate(key, 'bits single').value - kept.estimate(key, 'bits composed').value),
    )
    const points = (name: string) => overDraws(keys.map((key) => kept.estimate(key, name).value))
    const won = keys.filter((key) => kept.get(key)!.won === 'composed').length
    const worse = keys.filter((key) => {
      const [single, chosen] = ['exact single', 'exact won'].map((name) => kept.estimate(key, name))
      return single.value - chosen.value > 2 * Math.hypot(single.se, chosen.se)
    })
    return [
      isWithOwn ? 'its own skill among them' : 'without its own skill',
      String(keys.length),
      `${won} of ${keys.length}`,
      number(difference),
      percent(points('exact single')),
      percent(points('exact composed')),
      percent(points('exact won')),
      String(worse.length),
    ]
  })
  return {
    title: '(j) One model for five clinical tasks; (f) composing them',
    text: `
An encoder–decoder of 0.47 M weights (a small T5, trained here), and a full fine-tuning of it for each of five tasks made by templates, each kept as a file at k = 20 %.
Exact answers in percent, ${isDone ? '200' : ''} test requests a task (in torch 400), by the code of \`tritswap eval --labels\`.

${markdown(
  [
    'requests for',
    'base',
    'its skill',
    'the same in torch, uncompressed',
    ...MERGE_METHODS.map((method) => `all, ${method}`),
    'routed rightly',
  ],
  TASKS.map((task) => [
    task,
    exact(`${task} by base`),
    exact(`${task} by ${task}`),
    (100 * TORCH[task][task]).toFixed(1),
    ...MERGE_METHODS.map((method) => exact(`${task} by ${method}`)),
    kept.get('routed') === undefined ? 'not run' : percent(kept.estimate('routed', task)),
  ]),
)}

${routed.length === 0 ? '' : `- Routed by the text alone (\`loader.route\`, n-grams, the 200 requests of \`valid\` as samples), the five answer ${(100 * (routed.reduce((sum, { value }) => sum + value, 0) / routed.length)).toFixed(1)} % exactly, against ${percent(meanOf(TASKS.map(alone)))} % where each is told which is meant.`}
- A skill answers at most ${(100 * ELSEWHERE).toFixed(1)} % of the requests of another task (in torch). ${
      hasAll(
        kept,
        TASKS.flatMap((task) => MERGE_METHODS.map((method) => `${task} by ${method}`)),
      )
        ? merges(kept)
        : NOT_YET
    }

**(f)** \`compose\` on five examples of a task, over the files: weights by the search of \`loader.compose\` (${EVALUATIONS} evaluations), tried on the test.

${markdown(
  [
    'experts',
    'runs',
    'composition wins',
    'bits a token gained on the best single one',
    'exact: best single',
    'exact: composed',
    'exact: what won',
    'worse than the best single by 2 errors',
  ],
  composed,
)}

${isComposed ? compositions(kept) : NOT_YET}
`,
    charts: {
      'clinic.svg': drawn({
        title: 'Exact answers of five skills of one base',
        x: { title: '', ticks: [0.5, 1, 2, 3, 4, 5, 5.5], format: (x) => TASKS[x - 1] ?? '' },
        y: { title: 'exact, %', ticks: [0, 20, 40, 60, 80, 100] },
        series: ['base', 'its skill', ...MERGE_METHODS.map((method) => `all five, ${method}`)].map(
          (name, at) => ({
            name,
            points: TASKS.flatMap((task, i) => {
              const who = at === 0 ? 'base' : at === 1 ? task : MERGE_METHODS[at - 2]
              const key = `${task} by ${who}`
              if (kept.get(key) === undefined) return []
              const { value, se } = kept.estimate(key, 'exact')
              return [{ x: i + 1 + 0.06 * (at - 2), y: 100 * value, se: 100 * se }]
            }),
          }),
        ),
      }),
    },
  }
}

/** What torch counted of the uncompressed fine-tunings: each on the requests of every task. */
const TORCH: Record<string, Record<string, number>> = JSON.parse(
  readFileSync(join(CLINIC.base, '../scores-t5.json'), 'utf8'),
)

/** How much a skill answers of other tasks' requests, at most. */
const ELSEWHERE = Math.max(
  ...TASKS.flatMap((expert) => TASKS.flatMap((task) => (task === expert ? [] : [TORCH[expert][task]]))),
)

/** Of the best merge, against each alone. */
function merges(kept: Store): string {
  const means = MERGE_METHODS.map((method) => ({
    method,
    mean: meanOf(TASKS.map((task) => kept.estimate(`${task} by ${method}`, 'exact'))),
  }))
  const best = means.reduce((a, b) => (b.mean.value > a.mean.value ? b : a))
  const alone = meanOf(TASKS.map((task) => kept.estimate(`${task} by ${task}`, 'exact')))
  return `All five merged answer ${percent(best.mean)} % at best (${best.method}), each alone ${percent(alone)} %: skills of one base are for switching, not for summing.`
}

function compositions(kept: Store): string {
  const keys = kept.keys().filter((key) => key.startsWith('composed '))
  const won = keys.filter((key) => kept.get(key)!.won === 'composed').length
  return `- The composition won on ${won} of ${keys.length} occasions by the five examples. LoraHub's claim that composing beats choosing is ${won * 2 > keys.length ? '**confirmed in part**' : '**contradicted**'} for these skills, which have
  little in common; as published comparisons found. What \`compose\` names the winner is the last column but one.`
}
