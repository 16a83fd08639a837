/** What is given back when nothing needs it. */
import { expect, test } from 'vitest'
import { shapedWorld } from '../../bench/kernels/shapes.ts'
import { recordingGpu } from './recording_device.ts'

test('experts that are not in use go, the others move together, and a switch works as before', async () => {
  const { gpu } = recordingGpu(8)
  const shapes = [{ name: 'w', shape: [256, 256] }]
  const world = await shapedWorld(gpu, shapes, { dtype: 'float32', density: 0.05, experts: 3 })
  const { experts, switcher } = world
  const [first, used, last] = world.residents
  const set = [{ expert: used, weight: 1 }]
  await switcher.apply(set)
  await switcher.apply([])
  await switcher.apply(set)
  for (const expert of world.residents) expert.release()
  const before = experts.stats()
  await experts.trim()
  expect([first, used, last].map(({ evicted }) => evicted)).toEqual([true, false, true])
  expect(experts.stats()).toMatchObject({ residents: 1, bytes: used.bytes, arenaBytes: used.bytes })
  expect(before.arenaBytes).toBeGreaterThan(used.bytes)
  switcher.trim()
  expect(switcher.spareBytes).toBe(0)
  await switcher.apply([])
  await switcher.apply(set)
  await switcher.apply([])
  await experts.trim()
  expect(experts.stats()).toMatchObject({ residents: 0, bytes: 0, arenaBytes: 0 })
  world.destroy()
})
