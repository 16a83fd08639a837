import { describe, expect, test } from 'vitest'
import { TritswapError } from '../../src/errors.ts'
import type { ResidentExpert, SetEntry, SwitchOptions } from '../../src/gpu/index.ts'
import { ExpertRuntime } from '../../src/model/expert_runtime.ts'
import { BASE_SET } from '../../src/model/expert_set.ts'

/**
 * A GPU with a queue that nothing has run yet. What the device says of a switch comes when the test says it, so that the order
 * of what is queued shows.
 */
class SlowGpu {
  /** What was queued, in order. */
  readonly queued: string[] = []
  /** What the weights are once the queue has run: a switch that is refused leaves them. */
  weights = 'base'
  readonly answers: { accept(): void; refuse(): void; finish(): void }[] = []
  readonly references = new Map<string, number>()
  disposed = 0

  /** What the kernels of a set wait for before they are compiled, by its experts; those of others are there. */
  readonly compiling = new Map<string, Promise<void>>()

  readonly switcher = {
    prepareSet: (set: readonly SetEntry[]) =>
      this.compiling.get(set.map(({ expert }) => expert.rootHash).join('+')),
    apply: async (set: readonly SetEntry[], { timed, onSubmitted }: SwitchOptions = {}) => {
      const name = set.map(({ expert }) => expert.rootHash).join('+') || 'base'
      const before = this.weights
      this.queued.push(name)
      this.weights = name
      let finish = () => {}
      const end = new Promise<void>((resolve) => {
        finish = resolve
      })
      const answer = new Promise<void>((resolve, reject) => {
        const refuse = () => {
          this.weights = before
          reject(new TritswapError('webgpu', 'refused'))
        }
        this.answers.push({ accept: resolve, refuse, finish })
      })
      onSubmitted?.()
      await answer
      return { totalMs: 1, finished: timed ? end.then(() => ({ totalMs: 2, gpuMs: 0.5 })) : undefined }
    },
  }

  readonly runtime = new ExpertRuntime({
    weights: { feeds: () => [] } as never,
    switcher: this.switcher as never,
  })

  expert(rootHash: string): ResidentExpert {
    const count = (by: number) => this.references.set(rootHash, (this.references.get(rootHash) ?? 0) + by)
    const expert = { rootHash, retain: () => count(1), release: () => count(-1) }
    return expert as unknown as ResidentExpert
  }

  /** A session whose output says which weights it found when it was queued. */
  session() {
    return {
      inputNames: ['x'],
      run: async (_feeds: object) => {
        this.queued.push('pass')
        const logits = { weights: this.weights, dispose: () => this.disposed++ }
        return { logits }
      },
    }
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((resolve) => setImmediate(resolve))
  }

  /** Lets everything happen that waits for nothing. */
  async idle(): Promise<void> {
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
}

const weightsOf = (outputs: Record<string, unknown>) => (outputs.logits as { weights: string }).weights

describe('a pass behind a switch', () => {
  test('is queued before the device has said anything, and handed out after', async () => {
    const gpu = new SlowGpu()
    const { model } = gpu.runtime.sessions({ model: gpu.session() }, gpu.runtime.passContext())
    const settled: string[] = []
    const switched = gpu.runtime.activate(gpu.runtime.set([{ expert: gpu.expert('a'), weight: 1 }]))
    const pass = model.run({})
    void switched.then(() => settled.push('switch'))
    void pass.then(() => settled.push('pass'))
    await gpu.until(() => gpu.queued.length === 2)
    await gpu.idle()
    expect(gpu.queued).toEqual(['a', 'pass'])
    expect(settled).toEqual([])
    gpu.answers[0].accept()
    await Promise.all([switched, pass])
    expect(settled).toEqual(['switch', 'pass'])
    expect(weightsOf(await pass)).toBe('a')
  })

  test('does not wait for the GPU’s end where that is measured', async () => {
    const gpu = new SlowGpu()
    const { model } = gpu.runtime.sessions({ model: gpu.session() }, gpu.runtime.passContext())
    const set = gpu.runtime.set([{ expert: gpu.expert('a'), weight: 1 }])
    const switched = gpu.runtime.activate(set, { timed: true })
    const pass = model.run({})
    await gpu.until(() => gpu.queued.length === 2)
    gpu.answers[0].accept()
    expect(weightsOf(await pass)).toBe('a')
    let measured = false
    const times = gpu.runtime.measured((await switched).set).finally(() => {
      measured = true
    })
    // Nor does the next switch.
    const back = gpu.runtime.activate(gpu.runtime.set([]))
    await gpu.until(() => gpu.answers.length === 2)
    gpu.answers[1].accept()
    expect(await gpu.runtime.measured((await back).set)).toBeUndefined()
    expect(measured).toBe(false)
    gpu.answers[0].finish()
    expect((await times)?.gpuMs).toBe(0.5)
  })

  test('runs again with the set that is back where the device refuses the switch', async () => {
    const gpu = new SlowGpu()
    const context = gpu.runtime.passContext()
    const { model } = gpu.runtime.sessions({ model: gpu.session() }, context)
    const switched = gpu.runtime.activate(gpu.runtime.set([{ expert: gpu.expert('a'), weight: 1 }]))
    const pass = model.run({})
    await gpu.until(() => gpu.queued.length === 2)
    gpu.answers[0].refuse()
    await expect(switched).rejects.toMatchObject({ tag: 'webgpu' })
    expect(weightsOf(await pass)).toBe('base')
    expect(context.ran).toBe(BASE_SET)
    expect(gpu.disposed).toBe(1)
    expect(gpu.runtime.current).toBe(BASE_SET)
    expect(gpu.runtime.switches).toBe(0)
    await gpu.runtime.exclusively(async () => {})
    expect(gpu.references.get('a')).toBe(0)
  })

  test('of a call with experts of its own fails with the switch that it needs, and the next one tries again', async () => {
    const gpu = new SlowGpu()
    const own = gpu.runtime.set([{ expert: gpu.expert('own'), weight: 1 }])
    const { model } = gpu.runtime.sessions({ model: gpu.session() }, gpu.runtime.passContext(own))
    const first = model.run({})
    await gpu.until(() => gpu.queued.length === 2)
    gpu.answers[0].refuse()
    await expect(first).rejects.toMatchObject({ tag: 'webgpu' })
    const second = model.run({})
    await gpu.until(() => gpu.queued.length === 4)
    gpu.answers[1].accept()
    expect(weightsOf(await second)).toBe('own')
    expect(gpu.queued).toEqual(['own', 'pass', 'own', 'pass'])
  })

  test('with another set waits until it is clear what is on the weights', async () => {
    const gpu = new SlowGpu()
    const own = gpu.runtime.set([{ expert: gpu.expert('own'), weight: 1 }])
    const { model } = gpu.runtime.sessions({ model: gpu.session() }, gpu.runtime.passContext(own))
    const switched = gpu.runtime.activate(gpu.runtime.set([{ expert: gpu.expert('a'), weight: 1 }]))
    const pass = model.run({})
    await gpu.until(() => gpu.queued.length === 1)
    await gpu.idle()
    expect(gpu.queued).toEqual(['a'])
    gpu.answers[0].accept()
    await switched
    await gpu.until(() => gpu.queued.length === 3)
    gpu.answers[1].accept()
    expect(weightsOf(await pass)).toBe('own')
  })

  test('two switches in a row: what the second replaces is what the first has left', async () => {
    const gpu = new SlowGpu()
    const [a, b] = ['a', 'b'].map((name) => gpu.runtime.set([{ expert: gpu.expert(name), weight: 1 }]))
    const first = gpu.runtime.activate(a)
    await gpu.until(() => gpu.queued.length === 1)
    const second = gpu.runtime.activate(b)
    await gpu.idle()
    gpu.answers[0].refuse()
    await expect(first).rejects.toMatchObject({ tag: 'webgpu' })
    await gpu.until(() => gpu.queued.length === 2)
    gpu.answers[1].accept()
    await second
    expect(gpu.runtime.current).toBe(b)
    await gpu.runtime.exclusively(async () => {})
    expect(Object.fromEntries(gpu.references)).toEqual({ a: 0, b: 1 })
  })
})

describe('while the kernels of a set are compiled', () => {
  function slowCompiler() {
    const gpu = new SlowGpu()
    let compiled = () => {}
    const compiling = new Promise<void>((resolve) => {
      compiled = resolve
    })
    gpu.compiling.set('a+b', compiling)
    const mix = gpu.runtime.set(['a', 'b'].map((name) => ({ expert: gpu.expert(name), weight: 1 })))
    return { gpu, mix, compiled }
  }

  test('passes of the set before go on', async () => {
    const { gpu, mix, compiled } = slowCompiler()
    const { model } = gpu.runtime.sessions({ model: gpu.session() }, gpu.runtime.passContext())
    const switched = gpu.runtime.activate(mix)
    expect(weightsOf(await model.run({}))).toBe('base')
    expect(gpu.queued).toEqual(['pass'])
    compiled()
    await gpu.until(() => gpu.queued.length === 2)
    gpu.answers[0].accept()
    await switched
    expect(gpu.runtime.current).toBe(mix)
  })

  test('a later switch overtakes it', async () => {
    const { gpu, mix, compiled } = slowCompiler()
    const first = gpu.runtime.activate(mix)
    const second = gpu.runtime.activate(gpu.runtime.set([{ expert: gpu.expert('c'), weight: 1 }]))
    compiled()
    await expect(first).rejects.toMatchObject({ name: 'AbortError' })
    await gpu.until(() => gpu.queued.length === 1)
    gpu.answers[0].accept()
    await second
    expect(gpu.queued).toEqual(['c'])
  })

  test('a call with that set waits before it takes its turn', async () => {
    const { gpu, mix, compiled } = slowCompiler()
    const { model: own } = gpu.runtime.sessions({ model: gpu.session() }, gpu.runtime.passContext(mix))
    const { model: other } = gpu.runtime.sessions({ model: gpu.session() }, gpu.runtime.passContext())
    const waiting = own.run({})
    expect(weightsOf(await other.run({}))).toBe('base')
    compiled()
    await gpu.until(() => gpu.queued.length === 3)
    gpu.answers[0].accept()
    expect(weightsOf(await waiting)).toBe('a+b')
    expect(gpu.queued).toEqual(['pass', 'a+b', 'pass'])
  })
})
