import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkModel } from '../../src/cli/check_model.ts'
import { prepared, ZOO } from '../onnx/graphs.ts'
import { LONG } from '../tier.ts'
import { fixtureFile, PROMPT_KINDS } from './prompt_fixtures.ts'

const TOLERANCE = 1e-3

/** One of each in the quick tier. */
function casesOf(model: string): string[] {
  return readdirSync(join(PROMPT_KINDS, model), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && (LONG || entry.name === QUICK[model]))
    .map(({ name }) => name)
}

const QUICK: Record<string, string> = { 'llama-tiny': 'alora' }
const MODELS = readdirSync(PROMPT_KINDS).filter((model) => LONG || model in QUICK)
const BINDINGS = LONG ? (['merge', 'input'] as const) : (['input'] as const)

describe.each(MODELS)('%s', (model) => {
  let folder: string
  const scratch = mkdtempSync(join(tmpdir(), 'tritswap-prompt-'))
  afterAll(() => rmSync(scratch, { recursive: true }))
  beforeAll(async () => {
    folder = (await prepared(join(ZOO, model))).out
  }, 60_000)

  test.each(casesOf(model))('%s gives what torch gives, by every binding', async (name) => {
    const path = join(scratch, `${name}.trit`)
    writeFileSync(path, await fixtureFile(model, name))
    const inputs = join(PROMPT_KINDS, model, 'expected.safetensors')
    const request = { model: folder, inputs, experts: [{ path, weight: 1 }], wants: [name], prepare: {} }
    for (const binding of BINDINGS) {
      const report = await checkModel({ ...request, binding, tolerance: TOLERANCE })
      expect(report.results).toMatchObject([
        { name: 'base', right: true },
        { name, right: true },
      ])
    }
  })
})
