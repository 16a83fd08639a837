import { expect, test } from 'vitest'
import { SerialQueue } from '../../src/async/serial_queue.ts'

test('tasks run one at a time, in order, whatever became of those before', async () => {
  const queue = new SerialQueue()
  const log: string[] = []
  const task = (name: string, fails = false) =>
    queue.run(async () => {
      log.push(`${name} in`)
      await new Promise((resolve) => setTimeout(resolve))
      log.push(`${name} out`)
      if (fails) throw new Error(name)
      return name
    })
  const results = await Promise.allSettled([task('a'), task('b', true), task('c')])
  expect(log).toEqual(['a in', 'a out', 'b in', 'b out', 'c in', 'c out'])
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
})
