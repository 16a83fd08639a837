/** Ten thousand experts on the page: listed, searched and routed to without a task that anybody would notice. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { expect, test } from '@playwright/test'
import { centroidsOf, PLANE_WORDS } from '../src/route/centroids.ts'
import { writeIndex } from '../src/route/index_file.ts'
import { randomFrom } from '../tests/format/samples.ts'
import { startStaticServer } from './servers/static_server.ts'
import { longTasksDuring } from './support/long_tasks.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const ROOT = join(import.meta.dirname, '..')
const EXPERTS = 10_000
const PAGE = 100
/** The one that requests are for. */
const WANTED = 7_777

const random = randomFrom(5)
const word = () => Math.floor(random() * 2 ** 32)
const centroid = () => ({
  signs: Uint32Array.from({ length: PLANE_WORDS }, word),
  magnitudes: Uint32Array.from({ length: PLANE_WORDS }, word),
})
const requests = ['12 km in miles', '5 kg in pounds', '30 C in F', '70 mph in km/h']

/** The files of a registry, by name. */
function manyExperts(): Map<string, Buffer> {
  const entries = Array.from({ length: EXPERTS }, (_, n) => ({
    id: `expert-${n}`,
    label: n === WANTED ? 'Units of the world' : `Skill number ${n}`,
    url: `${n}.trit`,
    bytes: 40_000,
    rootHash: createHash('sha256').update(String(n)).digest('hex'),
    samples: [`A request for number ${n}`],
  }))
  const index = Buffer.from(
    writeIndex(
      entries.map(({ id, label }, n) => ({
        id,
        label,
        centroids: n === WANTED ? centroidsOf(requests) : Array.from({ length: 8 }, centroid),
      })),
    ),
  )
  const files = new Map([['experts.idx', index]])
  const named = (url: string, bytes: Buffer) => ({
    url,
    bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  })
  const pages: { url: string; count: number }[] = []
  for (let at = PAGE; at < EXPERTS; at += PAGE) {
    const url: string = `experts.${pages.length + 1}.json`
    const bytes = Buffer.from(JSON.stringify({ version: 1, experts: entries.slice(at, at + PAGE) }))
    files.set(url, bytes)
    pages.push({ ...named(url, bytes), count: PAGE })
  }
  const registry = { version: 1, index: named('experts.idx', index), pages, experts: entries.slice(0, PAGE) }
  return files.set('experts.json', Buffer.from(JSON.stringify(registry)))
}

test('ten thousand experts are opened, searched and routed to without a long task', async ({
  browser,
  page,
}) => {
  test.skip(!LONG, ONLY_LONG)
  const files = manyExperts()
  expect(files.get('experts.idx')!.length).toBeLessThanOrEqual(20e6)
  const fetched: string[] = []
  await page.route('**/many/*', (route) => {
    const name = new URL(route.request().url()).pathname.split('/').at(-1)!
    fetched.push(name)
    const body = files.get(name)
    return body === undefined ? route.fulfill({ status: 404 }) : route.fulfill({ body })
  })
  const tiny = join(ROOT, 'tests/fixtures/tiny_chat')
  const server = await startStaticServer({ 'models/tiny/': tiny, '': join(ROOT, 'dist') }, '/')
  try {
    await page.goto(`${server.url}?model=./models/tiny&experts=./empty.json&mode=chat`)
    await page.evaluate(() => document.querySelector('expert-switcher')!.load())
    const quick = async (doing: string, work: () => Promise<unknown>) => {
      expect(await longTasksDuring(browser, page, work), doing).toEqual([])
    }
    await quick('open', async () => {
      await page.evaluate(() => {
        document.querySelector('expert-switcher')!.experts = './many/experts.json'
      })
      await expect(page.getByRole('searchbox')).toHaveAttribute('placeholder', 'Search 10,000 pens')
    })
    await quick('search', async () => {
      await page.getByRole('searchbox').fill('units')
      await expect(page.getByRole('button', { name: 'Units of the world' })).toBeVisible()
    })
    await quick('route', async () => {
      const found = await page.evaluate(async () => {
        const { state } = document.querySelector('expert-switcher')!
        await state.takeFor('8 km in feet')
        return state.found
      })
      // Its file is not on the server: who fits is found, what is in hand answers.
      expect(found!.why).toContain('7777.trit')
    })
    await quick('more', async () => {
      await page.getByRole('button', { name: /^Show 100 of/ }).click()
      await expect(page.getByRole('radio', { name: 'Skill number 150', exact: true })).toBeVisible()
    })
  } finally {
    await server.close()
  }
  expect(new Set(fetched.filter((name) => /^experts\.\d+\.json$/.test(name)))).toEqual(
    new Set(['experts.1.json', 'experts.77.json']),
  )
})
