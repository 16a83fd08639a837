/**
 * (f), (h), (j) and a part of (e): five clinical tasks as skills of one encoder–decoder: alone, routed, merged and composed.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { atOnce } from '../../src/async/in_steps.ts'
import { type Labelled, parseLabelled } from '../../src/cli/labels.ts'
import { withExpertFiles } from '../../src/cli/open_experts.ts'
import { mergeExperts } from '../../src/compress/merge.ts'
import { MERGE_METHODS, type MergeMethod } from '../../src/compress/merged_values.ts'
import { memorySpool } from '../../src/format/writer.ts'
import {
  type Candidate,
  type CandidateName,
  composeWeights,
  type GroupWeights,
} from '../../src/model/compose.ts'
import { namesBySamples, routeIn } from '../../src/route/route.ts'
import { drawn } from '../chart.ts'
import { makeFull, UNCOMPRESSED } from '../make.ts'
import { CLINIC } from '../models.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Figures, Store } from '../store.ts'
import { draws } from '../task.ts'
import { hasAll, markdown, meanOf, NOT_YET, number, overDraws, percent } from '../text.ts'

const TASKS = CLINIC.tasks
/** Draws of examples for (f). */
const DRAWS = [0, 1] as const
const EXAMPLES = 5
/** Half of them for whole experts, half by groups of layers. */
const EVALUATIONS = 60
const GROUPS = 2
/** What sums are multiplied with, to be chosen on some of the requests that choices are made on. */
const WEIGHTS = [0.2, 0.4, 0.7, 1] as const
const VALID_TEXTS = 30

/** As a file of the repository, or as it was trained. */
const FORMS = ['compressed', 'uncompressed'] as const
type Form = (typeof FORMS)[number]

export function clinicRows(benches: Benches): Row[] {
  const skills = new Skills(benches)
  const measured = FORMS.flatMap((form) => [
    ...aloneRows(benches, skills, form),
    ...mergedRows(benches, skills, form),
    ...composedRows(benches, skills, form),
  ])
  return [routeRow(), ...measured].map((row) => ({ ...row, isQuick: true }))
}

/** The key of a row in one form. */
function inForm(key: string, form: Form): string {
  return form === 'compressed' ? key : `${key}, ${form}`
}

/** Skills as files, and merges of them, made once. */
class Skills {
  readonly #benches: Benches
  readonly #made = new Map<string, Promise<string>>()

  constructor(benches: Benches) {
    this.#benches = benches
  }

  path(task: string, form: Form): Promise<string> {
    if (form === 'compressed') return Promise.resolve(CLINIC.expert(task))
    return this.#once(`${task} ${form}`, async () => {
      const bench = await this.#benches.clinic(TASKS[0])
      const path = bench.scratch(`${task}.trit`)
      await makeFull(bench.base, CLINIC.tuned(task), UNCOMPRESSED, path)
      return path
    })
  }

  paths(form: Form): Promise<string[]> {
    return Promise.all(TASKS.map((task) => this.path(task, form)))
  }

  /** All five in one. */
  merged(form: Form, method: MergeMethod, weight: number): Promise<string> {
    return this.#once(`${form} ${method} ${weight}`, async () => {
      const path = (await this.#benches.clinic(TASKS[0])).scratch('merged.trit')
      await withExpertFiles(await this.paths(form), async (experts) => {
        const spool = memorySpool()
        const options = { method, weights: TASKS.map(() => weight), dense: true, denseDtype: 'f32' as const }
        const { head } = await mergeExperts(experts, options, { spool })
        await writeFile(path, spool.join(head))
      })
      return path
    })
  }

  #once(key: string, make: () => Promise<string>): Promise<string> {
    const found = this.#made.get(key) ?? make()
    this.#made.set(key, found)
    return found
  }
}

function validOf(task: string): Labelled[] {
  const path = CLINIC.labels(task, 'valid')
  return parseLabelled(readFileSync(path, 'utf8'), path)
}

/** The base and the skill of each task on its requests. */
function aloneRows(benches: Benches, skills: Skills, form: Form): Row[] {
  return TASKS.flatMap((task) => [
    ...(form === 'compressed'
      ? [
          {
            key: `${task} by base`,
            measure: async () => (await benches.clinic(task)).baseFigures,
          },
        ]
      : []),
    {
      key: inForm(`${task} by ${task}`, form),
      async measure() {
        const path = await skills.path(task, form)
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
      const skills = atOnce(namesBySamples(TASKS.map((id) => ({ id, samples: textsOf(id, 'valid') }))))
      const found: Record<string, { value: number; se: number }> = {}
      for (const task of TASKS) {
        const texts = textsOf(task, 'test')
        // Only among the skills: none of these requests is for the base.
        const right = texts.filter((text) => routeIn(text, skills, -2).chosen?.id === task).length
        const value = right / texts.length
        found[task] = { value, se: Math.sqrt((value * (1 - value)) / texts.length) }
      }
      return found
    },
  }
}

/** All five in one, at the weight that is best on other requests. */
function mergedRows(benches: Benches, skills: Skills, form: Form): Row[] {
  return MERGE_METHODS.flatMap((method) => {
    const valid = inForm(`valid ${method}`, form)
    const weightOf = (kept: Store) => (method === 'average' ? 1 : kept.number(valid, 'weight'))
    const choice: Row = {
      key: valid,
      async measure() {
        const bits: Record<string, number> = {}
        for (const weight of WEIGHTS) {
          const path = await skills.merged(form, method, weight)
          let sum = 0
          for (const task of TASKS) {
            const { model } = await benches.clinic(task)
            const examples = validOf(task)
              .slice(0, VALID_TEXTS)
              .map((one) => model.example(one))
            const scores = await model.score(examples, await model.bind([await model.admit(path)]))
            sum += bitsOf(scores) / TASKS.length
          }
          bits[`bits ${weight}`] = sum
        }
        const at = (weight: number) => bits[`bits ${weight}`]
        return { ...bits, weight: WEIGHTS.reduce<number>((a, b) => (at(b) < at(a) ? b : a), WEIGHTS[0]) }
      },
    }
    const tests = TASKS.map((task) => ({
      key: inForm(`${task} by ${method}`, form),
      async measure(kept: Store) {
        const path = await skills.merged(form, method, weightOf(kept))
        return (await benches.clinic(task)).expert(path)
      },
    }))
    return method === 'average' ? tests : [choice, ...tests]
  })
}

function bitsOf(scores: readonly { bits: number; tokens: number }[]): number {
  const sum = (of: 'bits' | 'tokens') => scores.reduce((total, score) => total + score[of], 0)
  return sum('bits') / sum('tokens')
}

/** Weights of skills, with the task's own among them or without it, found on five examples of the task. */
function composedRows(benches: Benches, skills: Skills, form: Form): Row[] {
  const tested = new Map<string, Promise<Figures>>()
  return TASKS.flatMap((task) =>
    [true, false].flatMap((isWithOwn) =>
      DRAWS.map((draw) => ({
        key: inForm(composedKey(task, isWithOwn, draw), form),
        async measure() {
          const bench = await benches.clinic(task)
          const valid = validOf(task)
          const random = draws(draw + 1)
          const few = Array.from({ length: EXAMPLES }, () => valid[Math.floor(random() * valid.length)])
          const examples = few.map((one) => bench.model.example(one))
          const names = TASKS.filter((other) => isWithOwn || other !== task)
          const admitted = await Promise.all(
            names.map(async (name) => bench.model.admit(await skills.path(name, form))),
          )
          const bound = (weights: readonly number[], groups?: GroupWeights) =>
            groups === undefined
              ? bench.model.bind(
                  admitted.filter((_, i) => weights[i] !== 0),
                  weights.filter((weight) => weight !== 0),
                )
              : bench.model.bind(admitted, undefined, groups)
          const composition = await composeWeights(
            names.length,
            async (weights, groups) => bench.model.score(examples, await bound(weights, groups)),
            { evaluations: EVALUATIONS, groups: GROUPS },
          )
          const { candidates, gain, groupsGain } = composition
          const single = candidates
            .filter(({ name }) => name === 'alone')
            .reduce((best, one) => (one.bitsPerToken < best.bitsPerToken ? one : best))
          const [composed, byLayers] = candidates.slice(-2)
          // Draws and sets of skills come to the same weights.
          const onTest = ({ weights, groups }: Candidate) => {
            const used = names.flatMap((name, i) =>
              weights[i] !== 0 || groups ? [`${name} ${groups?.[i] ?? weights[i]}`] : [],
            )
            const key = `${task}: ${used}`
            const found =
              tested.get(key) ?? bound(weights, groups).then(({ changed }) => bench.figures(changed))
            tested.set(key, found)
            return found
          }
          const found: Figures = {
            won: composition.name,
            gain,
            groupsGain,
            nothing: candidates[0].bitsPerToken,
          }
          for (const [name, one] of Object.entries({ single, composed, byLayers, won: composition })) {
            const { exact, bits } = await onTest(one)
            Object.assign(found, { [`exact ${name}`]: exact, [`bits ${name}`]: bits })
          }
          found.weights = (byLayers.groups ?? byLayers.weights).join('; ')
          return found
        },
      })),
    ),
  )
}

function composedKey(task: string, isWithOwn: boolean, draw: number): string {
  return `composed ${task} ${isWithOwn ? 'with' : 'without'} own ${draw}`
}

export function clinicPage(kept: Store): Page {
  const exact = (key: string) =>
    kept.get(key) === undefined ? 'not run' : percent(kept.estimate(key, 'exact'))
  const isDone = hasAll(kept, ['routed', ...TASKS.map((task) => `${task} by ${task}`)])
  return {
    title: '(j) One model for five clinical tasks; (e) merging and (f) composing them',
    text: `
An encoder–decoder of 0.47 M weights (a small T5, trained here), and a full fine-tuning of it for each of five tasks made by templates, each kept as a file at k = 20 %.
Exact answers in percent, 200 test requests a task (in torch 400), by the code of \`tritswap eval --labels\`.

${markdown(
  ['requests for', 'base', 'its skill, the file', 'uncompressed', 'the same in torch', 'routed rightly'],
  TASKS.map((task) => [
    task,
    exact(`${task} by base`),
    exact(`${task} by ${task}`),
    exact(inForm(`${task} by ${task}`, 'uncompressed')),
    (100 * TORCH[task][task]).toFixed(1),
    kept.get('routed') === undefined ? 'not run' : percent(kept.estimate('routed', task)),
  ]),
)}

${isDone ? routedClaim(kept) : NOT_YET}

**(e)** All five in one set of weights. Weights of sums are those with the fewest bits on ${VALID_TEXTS} other requests of each task, among ${WEIGHTS.join(', ')}.

${markdown(['', 'mean', ...TASKS], mergedLines(kept))}

${hasAll(kept, FORMS.flatMap(mergedKeys)) ? merges(kept) : NOT_YET}

**(f)** \`compose\` on five examples of a task, twice each: weights by the search of \`loader.compose\` (${EVALUATIONS} evaluations, half of them for one weight each, half by ${GROUPS} groups
of layers), tried on the test. A composition wins where it is better on the five by more than they can tell.

${markdown(
  [
    'experts',
    'runs',
    'composition wins',
    'by layers wins',
    'bits a token gained on the best single one',
    'by layers',
    'exact: best single',
    'exact: composed',
    'exact: by layers',
    'exact: what won',
    'worse than the best single by 2 errors',
  ],
  [true, false].flatMap((isWithOwn) => FORMS.map((form) => composedLine(kept, isWithOwn, form))),
)}

${hasAll(kept, FORMS.flatMap(composedKeys)) ? compositions(kept) : NOT_YET}
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
      'composing.svg': drawn({
        title: 'Exact answers of what five examples choose',
        x: { title: 'the best single one, %', ticks: [0, 20, 40, 60, 80, 100] },
        y: { title: 'exact, %', ticks: [0, 20, 40, 60, 80, 100] },
        series: Object.entries({ composed: 'composed', byLayers: 'by layers', won: 'what won' }).map(
          ([what, name]) => ({
            name,
            points: composedKeys('compressed').flatMap((key) => {
              if (kept.get(key) === undefined) return []
              const { value, se } = kept.estimate(key, `exact ${what}`)
              return [{ x: 100 * kept.estimate(key, 'exact single').value, y: 100 * value, se: 100 * se }]
            }),
          }),
        ),
      }),
    },
  }
}

function mergedKeys(form: Form): string[] {
  return TASKS.flatMap((task) => MERGE_METHODS.map((method) => inForm(`${task} by ${method}`, form)))
}

function composedKeys(form: Form): string[] {
  return TASKS.flatMap((task) =>
    [true, false].flatMap((isWithOwn) =>
      DRAWS.map((draw) => inForm(composedKey(task, isWithOwn, draw), form)),
    ),
  )
}

function routedClaim(kept: Store): string {
  const alone = (task: string) => kept.estimate(`${task} by ${task}`, 'exact')
  // A request that goes to another skill is answered by it, which knows no answer to it.
  const routed = meanOf(
    TASKS.map((task) => {
      const right = kept.estimate('routed', task)
      const { value, se } = alone(task)
      return { value: right.value * value, se: right.value * se }
    }),
  )
  return `- Routed by the text alone (\`loader.route\`, n-grams, the 200 requests of \`valid\` as samples), the five answer ${percent(routed)} % exactly, against ${percent(meanOf(TASKS.map(alone)))} % where each is
  told which is meant. A skill answers at most ${(100 * ELSEWHERE).toFixed(1)} % of the requests of another task (in torch).`
}

function mergedLines(kept: Store): string[][] {
  const cell = (key: string) =>
    kept.get(key) === undefined ? 'not run' : (100 * kept.estimate(key, 'exact').value).toFixed(1)
  return FORMS.toReversed().flatMap((form) => {
    const line = (label: string, keys: string[]) => [
      `${label}, ${form}`,
      hasAll(kept, keys) ? percent(meanOf(keys.map((key) => kept.estimate(key, 'exact')))) : 'not run',
      ...keys.map(cell),
    ]
    return [
      ...MERGE_METHODS.map((method) => {
        const weight = kept.get(inForm(`valid ${method}`, form))?.weight
        const label = typeof weight === 'number' ? `${method} (weight ${weight})` : method
        return line(
          label,
          TASKS.map((task) => inForm(`${task} by ${method}`, form)),
        )
      }),
      line(
        'each alone',
        TASKS.map((task) => inForm(`${task} by ${task}`, form)),
      ),
    ]
  })
}

function composedLine(kept: Store, isWithOwn: boolean, form: Form): string[] {
  const label = `${isWithOwn ? 'its own skill among them' : 'without its own skill'}, ${form}`
  const keys = TASKS.flatMap((task) =>
    DRAWS.map((draw) => inForm(composedKey(task, isWithOwn, draw), form)),
  ).filter((key) => kept.get(key) !== undefined)
  if (keys.length === 0) return [label, 'not run', ...Array<string>(9).fill('')]
  const gained = (what: string) =>
    number(
      overDraws(
        keys.map((key) => kept.estimate(key, 'bits single').value - kept.estimate(key, `bits ${what}`).value),
      ),
    )
  const points = (name: string) =>
    percent(overDraws(keys.map((key) => kept.estimate(key, `exact ${name}`).value)))
  const won = (name: CandidateName) =>
    `${keys.filter((key) => kept.get(key)!.won === name).length} of ${keys.length}`
  return [
    label,
    String(keys.length),
    won('composed'),
    won('composed by layers'),
    gained('composed'),
    gained('byLayers'),
    points('single'),
    points('composed'),
    points('byLayers'),
    points('won'),
    String(keys.filter((key) => isWorse(kept, key)).length),
  ]
}

/** Whether what won answers fewer requests than the best single skill, by more than two errors. */
function isWorse(kept: Store, key: string): boolean {
  const [single, won] = ['exact single', 'exact won'].map((name) => kept.estimate(key, name))
  return single.value - won.value > 2 * Math.hypot(single.se, won.se)
}

/** What torch counted of the uncompressed fine-tunings: each on the requests of every task. */
const TORCH: Record<string, Record<string, number>> = JSON.parse(
  readFileSync(join(CLINIC.base, '../scores-t5.json'), 'utf8'),
)

/** How much a skill answers of other tasks' requests, at most. */
const ELSEWHERE = Math.max(
  ...TASKS.flatMap((expert) => TASKS.flatMap((task) => (task === expert ? [] : [TORCH[expert][task]]))),
)

function merges(kept: Store): string {
  const mean = (method: string, form: Form) =>
    meanOf(TASKS.map((task) => kept.estimate(inForm(`${task} by ${method}`, form), 'exact')))
  const best = MERGE_METHODS.reduce((a, b) =>
    mean(b, 'compressed').value > mean(a, 'compressed').value ? b : a,
  )
  const alone = meanOf(TASKS.map((task) => kept.estimate(`${task} by ${task}`, 'exact')))
  const better = MERGE_METHODS.filter(
    (method) => mean(method, 'compressed').value > mean(method, 'uncompressed').value,
  )
  return `- All five files merged answer ${percent(mean(best, 'compressed'))} % at best (${best}), each alone ${percent(alone)} %: skills of one base are for switching, not for summing.
- Merging compressed experts is better than merging uncompressed ones in ${better.length} of ${MERGE_METHODS.length} ways here; the paper finds it in 9 of 12 cases.`
}

function compositions(kept: Store): string {
  const keys = composedKeys('compressed')
  const won = keys.filter((key) => String(kept.get(key)!.won).startsWith('composed')).length
  const byLayers = keys.filter((key) => kept.get(key)!.won === 'composed by layers').length
  const mean = (form: Form, name: string) =>
    overDraws(composedKeys(form).map((key) => kept.estimate(key, name).value))
  const worse = keys.filter((key) => isWorse(kept, key)).length
  const [single, chosen] = ['exact single', 'exact won'].map((name) => mean('compressed', name))
  return `- A composition won by the five examples on ${won} of ${keys.length} occasions, on ${byLayers} of them by layers. On the test what won answers ${percent(chosen)} %, the best single skill ${percent(single)} %, and on ${worse} occasions
  what won is worse by more than two errors. LoraHub's claim that composing beats choosing is ${chosen.value - single.value > 2 * Math.hypot(chosen.se, single.se) ? '**confirmed**' : '**not shown**'} for these skills, which have little in common.
- Over uncompressed skills what won answers ${percent(mean('uncompressed', 'exact won'))} %, over the files ${percent(chosen)} %.`
}
