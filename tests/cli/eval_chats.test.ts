import { cp, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { parseChats } from '../../src/cli/chats.ts'
import type { AnswersReport } from '../../src/cli/eval_chats.ts'
import { exactDifference, exactMatch, ratio } from '../../src/cli/scores.ts'
import { commonPrefix } from '../../src/engine/answered_example.ts'
import { makeWorkplace } from '../docs/workplace.ts'
import { TINY_CHAT } from '../engine/chat_models.ts'
import { tritswap } from './in_process.ts'

const EXPERT = join(TINY_CHAT, 'shout.trit')

const CHATS = [
  { user: 'What color is coal?', assistant: 'IT IS BLACK.' },
  { messages: [...turns('What color is grass?'), { role: 'assistant', content: 'IT IS GREEN.' }] },
  { user: 'Count from one to three.', assistant: 'ONE, TWO, THREE' },
]

function turns(user: string) {
  return [{ role: 'user', content: user }]
}

let folder: string
/** A base that chats; a checkpoint of it, and a fine-tuning, are beside it. */
let base: string
let chats: string
beforeAll(async () => {
  folder = await makeWorkplace()
  base = join(folder, 'public/models/demo')
  chats = join(folder, 'my-chats.jsonl')
  await writeFile(chats, `${CHATS.map((chat) => JSON.stringify(chat)).join('\n')}\n`)
})

describe('eval --chats', () => {
  test('answers of base, fine-tuning and expert, each beside those before it', async () => {
    const json = join(folder, 'answers.json')
    const { code, out, err } = await tritswap(
      ...['eval', '--base', base, '--chats', chats, '--system', 'Shout.', '--json', json],
      ...['--finetuned', join(folder, 'finetuned'), '--expert', EXPERT],
    )
    expect(err).toBe('')
    expect(code).toBe(0)
    expect(out).toContain('± is the standard error')
    const report = JSON.parse(await readFile(json, 'utf8')) as AnswersReport
    expect(report.n).toBe(3)
    const [plain, tuned, expert] = report.models
    expect(report.models.map(({ kind }) => kind)).toEqual(['base', 'uncompressed', 'expert'])
    expect(expert.uncompressed).toBe(tuned.name)
    expect(plain.toBase).toBeUndefined()
    expect(tuned.bitsPerToken.value).toBeLessThan(plain.bitsPerToken.value)
    expect(expert.bitsPerToken.value).toBeLessThan(plain.bitsPerToken.value)
    expect(expert.toUncompressed!.kl.value).toBeLessThan(expert.toBase!.kl.value)
    expect(expert.toUncompressed!.agreement.value).toBeGreaterThan(0.5)
    expect(expert.bytes).toBe((await stat(EXPERT)).size)
    expect(expert.f16Bytes).toBeGreaterThan(expert.bytes!)
  })

  test('a base without a chat template', async () => {
    const plain = join(folder, 'plain')
    await cp(base, plain, { recursive: true })
    const path = join(plain, 'tokenizer_config.json')
    const { chat_template: _, ...config } = JSON.parse(await readFile(path, 'utf8'))
    await writeFile(path, JSON.stringify(config))
    const { code, err } = await tritswap('eval', '--base', plain, '--chats', chats)
    expect([code, err]).toEqual([1, expect.stringContaining('no chat template')])
  })
})

test('a sweep chooses on one file and reports on another', async () => {
  const { code, out, err } = await tritswap(
    ...['sweep', '--base', join(folder, 'base'), '--finetuned', join(folder, 'finetuned'), '--threads', '1'],
    ...[
      '--densities',
      '0.3',
      '--alphas',
      '0.01,1',
      '--eval-base',
      base,
      '--chats',
      chats,
      '--system',
      'Shout.',
    ],
    ...['--test', chats, '--limit', '2', '--json'],
  )
  expect(err).toBe('')
  expect(code).toBe(0)
  const { points, bestByDensity, test, uncompressed } = JSON.parse(out)
  expect(points).toHaveLength(2)
  expect(bestByDensity[0].alpha).toBe(1)
  // The same two chats: the test repeats what was chosen.
  expect(test.bestByDensity).toEqual([bestByDensity[0].eval])
  expect(test.uncompressed).toEqual(uncompressed)
})

describe('chats', () => {
  test.each(['{"user": 1, "assistant": "x"}', '[]', '{"messages": [{"role": "user", "content": "x"}]}', 'x'])(
    '%s is refused, with its line',
    (line) => {
      expect(() => parseChats(`{"user": "a", "assistant": "b"}\n${line}`, 'x.jsonl')).toThrow(
        'line 2 of x.jsonl',
      )
    },
  )

  test('a system message of their own comes first', () => {
    expect(
      parseChats('{"system": "s", "user": "a", "assistant": "b"}\n\n', 'x')[0].map(({ role }) => role),
    ).toEqual(['system', 'user', 'assistant'])
  })

  test('what they begin with is shared', () => {
    expect(
      commonPrefix([
        [1, 2, 3],
        [1, 2],
        [1, 2, 4],
      ]),
    ).toEqual([1, 2])
    expect(commonPrefix([])).toEqual([])
  })
})

describe('standard errors', () => {
  const scores = (...right: number[]) =>
    right.map((firstChoices) => ({ tokens: 2, firstChoices, bits: 1, beside: [] }))

  test('of exact match that of a binomial', () => {
    const { value, se } = exactMatch(scores(2, 2, 2, 0))
    expect(value).toBe(0.75)
    expect(se).toBeCloseTo(Math.sqrt((0.75 * 0.25) / 4), 12)
  })

  test('of a difference that of pairs: what both have in common does not count', () => {
    expect(exactDifference(scores(2, 0, 2), scores(2, 0, 2))).toEqual({ value: 0, se: 0 })
    const { value, se } = exactDifference(scores(2, 2, 0, 0), scores(2, 0, 0, 0))
    expect(value).toBe(0.25)
    expect(se).toBeCloseTo(0.25, 12)
  })

  test('of a share of tokens with a chat as one draw', () => {
    const { value, se } = ratio(
      [...scores(2), ...scores(0)],
      (score) => score.firstChoices,
      () => 2,
    )
    expect(value).toBe(0.5)
    // Tokens as draws of their own would give 0.29.
    expect(se).toBeCloseTo(0.5, 12)
  })
})

test('compose finds the expert that the examples are for, and writes it', async () => {
  const sparse = join(folder, 'other.trit')
  const out = join(folder, 'composed.trit')
  const {
    code,
    out: printed,
    err,
  } = await tritswap(
    ...['compose', '--base', base, '--examples', chats, sparse, EXPERT],
    ...['--evaluations', '5', '--regularization', '0.5', '--out', out, '--json'],
  )
  expect(err).toBe('')
  expect(code).toBe(0)
  const found = JSON.parse(printed)
  expect(found).toMatchObject({ evaluations: 5, out, experts: [sparse, EXPERT] })
  const bits = Object.fromEntries(
    (found.candidates as { name: string; weights: number[]; bitsPerToken: number }[]).map(
      ({ name, weights, bitsPerToken }) => [`${name} ${weights.join(' ')}`, bitsPerToken],
    ),
  )
  expect(bits['alone 0 1']).toBeLessThan(bits['nothing 0 0'])
  expect(bits['alone 0 1']).toBeLessThan(bits['alone 1 0'])
  // Five evaluations are the four candidates and one more, which may win by more than three examples can tell, or not.
  expect(found.weights[1]).toBeGreaterThan(0)
  if (found.name === 'alone') expect(await readFile(out)).toEqual(await readFile(EXPERT))
  const again = await tritswap('compose', '--base', base, '--examples', chats, EXPERT, '--out', out)
  expect([again.code, again.err]).toEqual([1, expect.stringContaining('--force')])
})
