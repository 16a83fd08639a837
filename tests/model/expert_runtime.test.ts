import { beforeEach, describe, expect, test } from 'vitest'
import { isAbortError } from '../../src/errors.ts'
import type { ResidentExpert, SetEntry, SwitchTimings } from '../../src/gpu/index.ts'
import { ExpertRuntime } from '../../src/model/expert_runtime.ts'
import { BASE_SET } from '../../src/model/expert_set.ts'

/** A GPU that only remembers: what is applied, and whether two things were ever under way at once. */
class FakeGpu {
  log: string[] = []
  busy = 0
  references = new Map<string, number>()

  async alone<T>(what: string, result: T): Promise<T> {
    expect(++this.busy).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 1))
    this.busy--
    this.log.push(what)
    return result
  }

  expert(rootHash: string): ResidentExpert {
    const count = (by: number) => this.references.set(rootHash, (this.references.get(rootHash) ?? 0) + by)
    const expert = {
      rootHash,
      retain: () => {
        count(1)
        return expert
      },
      release: () => count(-1),
    } as unknown as ResidentExpert
    return expert
  }
}

const timings = { totalMs: 1 } as SwitchTimings
let gpu: FakeGpu
let runtime: ExpertRuntime
beforeEach(() => {
  gpu = new FakeGpu()
  runtime = new ExpertRuntime({
    weights: { feeds: () => [] } as never,
    switcher: {
      prepareSet: () => undefined,
      apply: (set: readonly SetEntry[]) =>
        gpu.alone(`apply ${set.map(({ expert }) => expert.rootHash).join('+') || 'base'}`, timings),
    } as never,
  })
})

const session = () => ({ inputNames: ['x'], run: (_feeds: object) => gpu.alone('run', {}) })

describe('ExpertRuntime', () => {
  test('a switch lands between two forward passes', async () => {
    const context = runtime.passContext()
    const { model } = runtime.sessions({ model: session() }, context)
    const set = runtime.set([{ expert: gpu.expert('a'), weight: 1 }])
    const first = model.run({})
    const switched = runtime.activate(set)
    const second = model.run({})
    await first
    expect(context.ran).toBe(BASE_SET)
    await Promise.all([switched, second])
    expect(context.ran).toBe(set)
    expect(gpu.log).toEqual(['run', 'apply a', 'run'])
  })

  test('the last of several quick switches wins, the others reject with AbortError', async () => {
    const names = ['a', 'b', 'c']
    const results = await Promise.allSettled(
      names.map((name) => runtime.activate(runtime.set([{ expert: gpu.expert(name), weight: 1 }]))),
    )
    expect(gpu.log).toEqual(['apply c'])
    expect(results.map((result) => result.status === 'rejected' && isAbortError(result.reason))).toEqual([
      true,
      true,
      false,
    ])
    expect(gpu.references).toEqual(new Map([['c', 1]]))
  })

  test('a context with experts of its own keeps them, and the default comes back for the others', async () => {
    const wanted = runtime.set([{ expert: gpu.expert('own'), weight: 1 }])
    const own = runtime.passContext(wanted)
    const other = runtime.passContext()
    const mine = runtime.sessions({ model: session() }, own).model
    const theirs = runtime.sessions({ model: session() }, other).model
    await Promise.all([mine.run({}), theirs.run({}), mine.run({}), mine.run({})])
    // Passes that need no switch go first.
    expect(gpu.log).toEqual(['run', 'apply own', 'run', 'run', 'run'])
    expect(own.ran).toBe(wanted)
    await theirs.run({})
    expect(gpu.log.slice(5)).toEqual(['apply base', 'run'])
    expect(other.ran).toBe(BASE_SET)
    expect(gpu.references.get('own')).toBe(1)
    own.end()
    expect(gpu.references.get('own')).toBe(0)
  })

  test('a pinned context stays with its set through a switch, until it is pinned again', async () => {
    const context = runtime.passContext()
    expect(context.pin()).toBe(true)
    const { model } = runtime.sessions({ model: session() }, context)
    const set = runtime.set([{ expert: gpu.expert('a'), weight: 1 }])
    await runtime.activate(set)
    await model.run({})
    expect(context.ran).toBe(BASE_SET)
    expect(context.pin()).toBe(true)
    await model.run({})
    expect(context.ran).toBe(set)
    expect(context.pin()).toBe(false)
    expect(gpu.log).toEqual(['apply a', 'apply base', 'run', 'apply a', 'run'])
    context.end()
    await runtime.activate(runtime.set([]))
    expect(gpu.references.get('a')).toBe(0)
  })

  test('the default set is held in VRAM until another one takes its place', async () => {
    const set = runtime.set([{ expert: gpu.expert('a'), weight: 0.5 }])
    await runtime.activate(set)
    expect(gpu.references.get('a')).toBe(1)
    await runtime.activate(runtime.set([]))
    expect(gpu.references.get('a')).toBe(0)
  })

  test('an aborted switch changes nothing', async () => {
    const abort = new AbortController()
    const switched = runtime.activate(runtime.set([{ expert: gpu.expert('a'), weight: 1 }]), {
      signal: abort.signal,
    })
    abort.abort()
    await expect(switched).rejects.toSatisfy(isAbortError)
    expect(gpu.log).toEqual([])
    expect(runtime.current).toBe(BASE_SET)
  })

  test('a weight that is no number is refused', () => {
    expect(() => runtime.set([{ expert: gpu.expert('a'), weight: Number.NaN }])).toThrow(/finite/)
  })
})
