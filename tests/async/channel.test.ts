import { expect, test } from 'vitest'
import { Channel } from '../../src/async/channel.ts'

test('values come in order, then the end', async () => {
  const channel = new Channel<number>(2)
  const read = async () => {
    const values: number[] = []
    for await (const value of channel) values.push(value)
    return values
  }
  const reading = read()
  for (let i = 0; i < 5; i++) {
    await channel.ready()
    channel.push(i)
  }
  channel.close()
  expect(await reading).toEqual([0, 1, 2, 3, 4])
})

test('an error comes after what was pushed, once', async () => {
  const channel = new Channel<string>(2)
  channel.push('a')
  channel.close(new Error('no more'))
  expect(await channel.next()).toEqual({ done: false, value: 'a' })
  await expect(channel.next()).rejects.toThrow('no more')
  expect(await channel.next()).toEqual({ done: true, value: undefined })
})

test('there is room again once a value was read, or none is wanted', async () => {
  const channel = new Channel<number>(1)
  channel.push(1)
  let ready = 0
  const count = () => {
    ready++
  }
  const first = channel.ready().then(count)
  await Promise.resolve()
  expect(ready).toBe(0)
  await channel.next()
  await first
  channel.push(2)
  const second = channel.ready().then(count)
  channel.clear()
  await second
  expect(ready).toBe(2)
})

test('a reader that leaves waits for the producer and gets nothing more', async () => {
  const log: string[] = []
  const channel = new Channel<string>(1, async () => {
    channel.push('too late')
    log.push('producer ended')
  })
  channel.push('a')
  for await (const value of channel) {
    log.push(value)
    break
  }
  expect(log).toEqual(['a', 'producer ended'])
  expect(await channel.next()).toEqual({ done: true, value: undefined })
})
