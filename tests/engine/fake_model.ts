import type { OpenModel } from '../../src/engine/open_model.ts'
import type { EncodedPrompt } from '../../src/engine/protocol.ts'
import type { OnToken } from '../../src/engine/text_model.ts'
import type { OrtSession } from '../../src/model/hoisted_session.ts'
import { type FakeHost, fakeHost } from '../loader/fake_host.ts'

export interface FakeModel extends FakeHost {
  open: OpenModel
  /** Forward passes so far: what was merged during each. */
  passes: string[]
  /** Waited for by each forward pass. */
  beforePass: Promise<unknown>
  disposed: boolean
}

/** A model that needs one forward pass a token, as transformers.js does; token n is n. */
export function fakeModel(budget?: number): FakeModel {
  const fake = fakeHost(budget)
  const session: OrtSession = {
    inputNames: [],
    async run() {
      await model.beforePass
      model.passes.push(fake.merged().join('+') || 'base')
      return {}
    },
  }
  const text = {
    sessions: { model: session },
    encode: (from: string) => Array.from(from, (_, i) => i),
    decode: (tokens: readonly number[]) => tokens.join(' '),
    chat: { exists: false },
    encodePrompt: (prompt: string) => ({ ids: text.encode(prompt) }),
    async generate(
      { ids }: EncodedPrompt,
      sessions: Record<string, OrtSession>,
      onToken: OnToken,
      { maxNewTokens = 8 }: { maxNewTokens?: number },
      { signal }: { signal?: AbortSignal },
    ) {
      for (let token = 0; token < maxNewTokens; token++) {
        await sessions.model.run({})
        if (signal?.aborted) throw signal.reason
        onToken(token, String(token), token === 0 ? ids.length : 1)
      }
      return 'length'
    },
    example: () => ({ ids: [0, 1], first: 1 }),
    async logits(_tokens: readonly number[], sessions: Record<string, OrtSession>) {
      await sessions.model.run({})
      // Expert a knows that 1 follows 0; without it, 0 is likelier.
      const knows = fake.merged().some((name) => name.startsWith('a'))
      return { data: Float32Array.of(1, knows ? 4 : 2, 3, 4), vocabulary: 2 }
    },
    async dispose() {
      model.disposed = true
    },
  }
  const info = { name: 'fake', adapter: {}, dtype: 'f32', weights: 1, contextLength: 64 }
  const open = { gpu: fake.host.gpu, host: fake.host, text, info } as unknown as OpenModel
  const model: FakeModel = Object.assign(fake, {
    open,
    passes: [],
    beforePass: Promise.resolve(),
    disposed: false,
  })
  return model
}
