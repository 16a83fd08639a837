/**
 * The bundled instruct model in Node, on wasm: what torch answers greedily is the first choice at every position. One pass
 * over request and answer tells, without generating. Half a minute and 3 GB: in the long tier.
 *
 * @module
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openFile } from '../../src/cli/file_source.ts'
import { type Feeds, NodeSession } from '../../src/cli/node_session.ts'
import { openPreparedBase, type PreparedBase } from '../../src/cli/prepared_base.ts'

const PUBLIC = join(import.meta.dirname, '../../public')

interface Answer {
  prompt: number[]
  /** As torch gives them on the checkpoint that the GGUF dequantizes to. */
  tokens: number[]
}

const FIXTURE = JSON.parse(await readFile(join(import.meta.dirname, '../fixtures/smollm2.json'), 'utf8')) as {
  base: Answer[]
  experts: Record<string, Answer>
}

describe.runIf(process.env.LONG === '1')('SmolLM2-135M-Instruct', () => {
  let base: PreparedBase
  let session: NodeSession
  beforeAll(async () => {
    base = await openPreparedBase(join(PUBLIC, 'models/smollm2'))
    session = await NodeSession.create(base.graph.bytes)
  }, 120_000)
  afterAll(() => session?.release())

  async function choices({ prompt, tokens }: Answer, feeds: Feeds): Promise<number[]> {
    const { data, vocabulary } = await session.logits([...prompt, ...tokens.slice(0, -1)], feeds)
    return tokens.map((_, i) => {
      const at = (prompt.length - 1 + i) * vocabulary
      const row = data.subarray(at, at + vocabulary)
      return row.reduce((best, value, token) => (value > row[best] ? token : best), 0)
    })
  }

  test('answers as torch does', async () => {
    const feeds = session.weights(base.weights.feeds(base.graph.file))
    for (const answer of FIXTURE.base) expect(await choices(answer, feeds)).toEqual(answer.tokens)
  }, 120_000)

  test.each(Object.entries(FIXTURE.experts))(
    'with %s, as torch with its decoded weights',
    async (id, answer) => {
      const file = await openFile(join(PUBLIC, `experts/smollm2/${id}.trit`))
      const changed = await base.weights.patched(file)
      await file.close()
      const feeds = session.weights(base.weights.feeds(base.graph.file, changed))
      expect(await choices(answer, feeds)).toEqual(answer.tokens)
    },
    120_000,
  )
})
