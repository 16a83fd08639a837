import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type LabelsReport, macroF1 } from '../../src/cli/eval_labels.ts'
import { LabelledModel } from '../../src/cli/labelled_model.ts'
import { parseLabelled } from '../../src/cli/labels.ts'
import { LONG } from '../tier.ts'
import { tritswap } from './in_process.ts'

/** Examples. */
const N = LONG ? 120 : 40
const MODELS = join(import.meta.dirname, '../../results/models')

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-labels-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('eval --labels', () => {
  test('a classifier: accuracy of the base and of an expert', async () => {
    const json = join(folder, 'classifier.json')
    const { code, out, err } = await tritswap(
      ...[
        'eval',
        '--base',
        join(MODELS, 'assertion'),
        '--labels',
        join(MODELS, 'labels/assertion.test.jsonl'),
      ],
      ...['--expert', join(MODELS, 'assertion-tuned/full-0.2.trit'), '--limit', String(N), '--json', json],
    )
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toContain('accuracy')
    const { models, classes, n } = JSON.parse(await readFile(json, 'utf8')) as LabelsReport
    expect(classes).toContain('hypothetical')
    expect(n).toBe(N)
    const [base, expert] = models
    expect(expert.exact.value).toBeGreaterThan(base.exact.value + 0.3)
    expect(expert.macroF1).toBeGreaterThan(base.macroF1!)
    expect(expert.toBase!.exact.value).toBeCloseTo(expert.exact.value - base.exact.value, 10)
  })

  test('an encoder–decoder: labels are texts', async () => {
    const json = join(folder, 'clinic.json')
    const { code, err } = await tritswap(
      ...['eval', '--base', join(MODELS, 'clinic'), '--labels', join(MODELS, 'labels/assertion.test.jsonl')],
      ...['--expert', join(MODELS, 'clinic-tuned/assertion.trit'), '--limit', String(N / 2), '--json', json],
    )
    expect({ code, err }).toEqual({ code: 0, err: '' })
    const { models, classes } = JSON.parse(await readFile(json, 'utf8')) as LabelsReport
    const [base, expert] = models
    expect(classes).toBeUndefined()
    expect(expert.macroF1).toBeUndefined()
    expect(expert.exact.value).toBeGreaterThan(base.exact.value + 0.3)
  })

  test.each(['assertion', 'clinic'])(
    '%s: examples of one shape run together, and score as alone',
    async (name) => {
      const model = await LabelledModel.open(join(MODELS, name), { anyCheckpoint: true })
      try {
        const path = join(MODELS, 'labels/assertion.test.jsonl')
        const examples = parseLabelled(await readFile(path, 'utf8'), path)
          .slice(0, 24)
          .map((one) => model.example(one))
        const shapes = new Set(
          examples.map(({ inputs }) => JSON.stringify(Array.from(inputs, ([, { dims }]) => dims))),
        )
        expect(shapes.size).toBeLessThan(examples.length)
        const together = await model.score(examples, undefined)
        for (const [i, example] of examples.entries()) {
          const [alone] = await model.score([example], undefined)
          expect(together[i].bits).toBeCloseTo(alone.bits, 3)
          expect(together[i].firstChoices).toEqual(alone.firstChoices)
        }
      } finally {
        await model.close()
      }
    },
  )

  test('a label that the model does not have is refused by name', async () => {
    const labels = join(folder, 'other.jsonl')
    await writeFile(labels, '{"text": "no chest pain", "label": "maybe"}\n')
    const { code, err } = await tritswap('eval', '--base', join(MODELS, 'assertion'), '--labels', labels)
    expect(code).toBe(1)
    expect(err).toContain('Cannot score the label maybe: expected one of absent')
  })
})

test('lines that are no labelled texts are named', () => {
  expect(parseLabelled('{"text": "a", "label": 1}\n\n{"text": "a", "pair": "b", "label": "c"}', 'x')).toEqual(
    [
      { text: 'a', pair: undefined, label: '1' },
      { text: 'a', pair: 'b', label: 'c' },
    ],
  )
  for (const line of ['{"text": "a"}', '{"label": "a"}', '[]', 'null', '{"text": 1, "label": "a"}', 'a'])
    expect(() => parseLabelled(`{"text": "a", "label": "b"}\n${line}`, 'few.jsonl')).toThrow(
      'line 2 of few.jsonl',
    )
  expect(() => parseLabelled('\n', 'none.jsonl')).toThrow('it has no labelled texts')
})

test('macro F1 counts every class that occurs alike', () => {
  const score = (wanted: number, predicted: number) => ({
    ...{ tokens: 1, firstChoices: Number(wanted === predicted), bits: 0, beside: [] },
    ...{ wanted: [wanted], predicted },
  })
  // Class 0: precision 2/3, recall 1; class 1: precision 1, recall 1/2.
  expect(macroF1([score(0, 0), score(0, 0), score(1, 1), score(1, 0)])).toBeCloseTo((0.8 + 2 / 3) / 2, 10)
  expect(macroF1([{ ...score(0, 0), predicted: undefined }])).toBeUndefined()
})
