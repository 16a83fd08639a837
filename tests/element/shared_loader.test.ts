import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type CreateLoader, leaseLoader } from '../../src/element/shared_loader.ts'

setFlagsFromString('--expose_gc')
const collectGarbage = runInNewContext('gc') as () => void

beforeEach(() => {
  vi.stubGlobal('document', { baseURI: 'https://page.example/' })
})
afterEach(() => vi.unstubAllGlobals())

test('of ten that wait for one base, what belongs to one that leaves is freed while the others wait on', async () => {
  let arrived = (_: never) => {}
  const create = vi.fn(() => new Promise<never>((resolve) => (arrived = resolve)))
  const leave: AbortController[] = []
  const elements: WeakRef<object>[] = []
  const join = () => {
    const element = { text: new Array(1000).fill('word') }
    const controller = new AbortController()
    elements.push(new WeakRef(element))
    leave.push(controller)
    return leaseLoader(create as unknown as CreateLoader, 'model', {
      signal: controller.signal,
      onProgress: () => element.text.push('progress'),
      onShared: () => element.text.push('shared'),
    })
  }
  const leases = Array.from({ length: 10 }, join)
  leave[3].abort()
  await expect(leases.splice(3, 1)[0]).rejects.toThrow(/abort/)
  leave.splice(3, 1)
  await vi.waitFor(() => {
    collectGarbage()
    expect(elements.map((element) => element.deref() !== undefined)).toEqual(
      Array.from({ length: 10 }, (_, i) => i !== 3),
    )
  })
  arrived({ dispose: async () => {} } as never)
  expect(await Promise.all(leases)).toHaveLength(9)
  expect(create).toHaveBeenCalledTimes(1)
})
