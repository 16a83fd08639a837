import { describe, expect, test } from 'vitest'
import { MAX_OVERTAKING, Turns, type WaitingPass } from '../../src/model/turns.ts'

/** A model with weights that the passes of callers want to be on. */
class Model {
  readonly turns = new Turns()
  on = 'base'
  /** Callers of the passes, and tasks, in the order in which they ran. */
  readonly ran: string[] = []
  switches = 0

  waiting(caller: object, set: string): WaitingPass {
    return { caller, isOn: () => this.on === set }
  }

  pass(caller: object, set: string): Promise<void> {
    return this.turns.run(
      async () => {
        if (this.on !== set) this.switches++
        this.on = set
        await new Promise((resolve) => setTimeout(resolve, 4))
        this.ran.push(set)
      },
      this.waiting(caller, set),
    )
  }

  task(name: string): Promise<void> {
    return this.turns.run(() => {
      this.ran.push(name)
    })
  }

  /** A call of so many tokens, each of which is asked for when the one before it is there. */
  async call(set: string, tokens: number): Promise<void> {
    const caller = {}
    for (let token = 0; token < tokens; token++) await this.pass(caller, set)
    this.turns.dismiss(caller)
  }
}

describe('calls with different experts at once', () => {
  test('take turns of several tokens: no switch for every token, and no call waits for long', async () => {
    const model = new Model()
    const tokens = 3 * MAX_OVERTAKING
    await Promise.all([model.call('a', tokens), model.call('b', tokens), model.call('c', tokens)])
    expect(model.ran).toHaveLength(3 * tokens)
    expect(model.switches).toBeLessThanOrEqual(3 * 3 + 3)
    for (const set of ['a', 'b', 'c']) {
      const places = model.ran.flatMap((ran, i) => (ran === set ? [i] : []))
      const waits = places.map((place, i) => place - (places[i - 1] ?? -1) - 1)
      // Both others have had their turns.
      expect(Math.max(...waits)).toBeLessThanOrEqual(2 * (MAX_OVERTAKING + 1))
    }
  })

  test('one that ends early leaves the others no wait', async () => {
    const model = new Model()
    await Promise.all([model.call('a', 2), model.call('b', 2)])
    expect(model.ran).toEqual(['a', 'a', 'b', 'b'])
  })

  test('one whose caller asks for nothing more is not waited for without end', async () => {
    const model = new Model()
    const first = model.pass({}, 'a')
    const second = model.pass({}, 'b')
    await Promise.all([first, second])
    expect(model.ran).toEqual(['a', 'b'])
  })

  test('of one set run in the order in which they came', async () => {
    const model = new Model()
    const order: number[] = []
    const passes = [0, 1, 2].map((i) => model.pass({}, 'a').then(() => order.push(i)))
    await Promise.all(passes)
    expect(order).toEqual([0, 1, 2])
    expect(model.switches).toBe(1)
  })
})

describe('a task that is no pass', () => {
  test('keeps its place: what came before it runs before, what came after it after', async () => {
    const model = new Model()
    const a = {}
    await Promise.all([
      model.pass(a, 'a'),
      model.pass({}, 'b'),
      model.task('activate'),
      model.pass(a, 'a'),
      model.pass({}, 'b'),
    ])
    expect(model.ran).toEqual(['a', 'b', 'activate', 'b', 'a'])
  })

  test('ends the wait for the next pass of a call', async () => {
    const model = new Model()
    const first = model.pass({}, 'a')
    const second = model.pass({}, 'b')
    const task = first.then(() => model.task('activate'))
    await Promise.all([second, task])
    expect(model.ran).toEqual(['a', 'b', 'activate'])
  })
})

test('a task that fails does not stop those behind it', async () => {
  const model = new Model()
  const failing = model.turns.run(async () => {
    throw new Error('no')
  })
  const next = model.task('next')
  await expect(failing).rejects.toThrow('no')
  await next
  expect(model.ran).toEqual(['next'])
})
