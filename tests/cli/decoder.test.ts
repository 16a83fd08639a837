import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Decoder } from '../../src/cli/decoder.ts'
import { NodeSession } from '../../src/cli/node_session.ts'
import { openPreparedBase } from '../../src/cli/prepared_base.ts'
import { WeightsFile } from '../../src/cli/weights_file.ts'
import { rangeOf } from '../../src/reference/index.ts'
import { prepared, ZOO } from '../onnx/graphs.ts'

const PREFIX = [5, 9, 2]
const EXAMPLES = [
  { ids: [...PREFIX, 7, 11, 3, 8, 4], first: 5 },
  { ids: [...PREFIX, 1, 6], first: 4 },
]

test.each(['llama-tiny', 'qwen2-tiny', 'gpt2-tiny'])(
  'answers of %s have the logits of whole passes, with what all begin with read once',
  async (model) => {
    const { out, weights } = await prepared(join(ZOO, model))
    const base = await openPreparedBase(out)
    const path = join(tmpdir(), `tritswap-decoder-${process.pid}-${model}`)
    const file = await WeightsFile.create(path, base.fit.weights, base.graph.file)
    await file.bring()
    const decoder = await Decoder.create(base.graph, file, { config: base.config })
    const session = await NodeSession.create(base.graph.bytes)
    const feeds = session.weights(weights.feeds(base.graph.file))
    for (const prefix of [[], PREFIX]) {
      await decoder.readPrefix(prefix)
      for (const { ids, first } of EXAMPLES) {
        const { data, vocabulary } = await decoder.logits({ ids, first })
        const whole = await session.logits(ids, feeds)
        const wanted = whole.data.slice((first - 1) * vocabulary, (ids.length - 1) * vocabulary)
        expect(vocabulary).toBe(whole.vocabulary)
        expect(data.length).toBe(wanted.length)
        const distance = wanted.reduce((max, value, i) => Math.max(max, Math.abs(value - data[i])), 0)
        expect(distance / rangeOf(wanted)).toBeLessThan(1e-5)
      }
    }
    await decoder.release()
    await session.release()
    await file.close()
    await base.close()
    await rm(path)
  },
)
