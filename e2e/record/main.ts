/**
 * `npm run record`: drives the built page through the runs that its first screen shows, and writes down what came of it
 * in `public/recorded`, with the hashes of the files that it used. The names of doors choose some of the runs.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Browser, chromium } from '@playwright/test'
import { chromiumLaunchOptions } from '../../scripts/chromium.mjs'
import type { Recording } from '../../src/demo/recording.ts'
import { startStaticServer } from '../servers/static_server.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const PUBLIC = join(ROOT, 'public')

/** What is recorded of a door. */
interface Run {
  search: string
  begin: string
  mode: Recording['mode']
  /** Ids of the experts; `''` is the base. */
  voices: readonly string[]
  temperature: number
  seed: number
  tokens: number
  /** An odd number of times that each file is put on and taken off; the medians are written down. */
  switches: number
}

/** Beginnings at which the voices part at once. */
const RUNS: Readonly<Record<string, Run>> = {
  writers: {
    search: '',
    begin: 'The king said',
    mode: 'manuscript',
    voices: ['', 'bard-distilled-0.05', 'scripture-distilled-0.05'],
    temperature: 0.7,
    seed: 3,
    tokens: 40,
    switches: 9,
  },
  skills: {
    search: '?skills',
    begin: 'cars(id, model, maker, price, power)\nthe 4 cars with the highest power',
    mode: 'chat',
    voices: ['', 'sql'],
    temperature: 0,
    seed: 0,
    // A software adapter takes half a minute for each.
    tokens: 16,
    switches: 1,
  },
}

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !(name in RUNS))
if (unknown.length > 0)
  throw new Error(`Cannot record ${unknown.join(', ')}: expected some of ${Object.keys(RUNS).join(', ')}`)

const browser = await chromium.launch(chromiumLaunchOptions())
const host = await startStaticServer({ '': join(ROOT, 'dist') }, '/')
try {
  mkdirSync(join(PUBLIC, 'recorded'), { recursive: true })
  for (const name of asked.length > 0 ? asked : Object.keys(RUNS)) {
    const recording = await record(browser, host.url, RUNS[name]!)
    writeFileSync(join(PUBLIC, 'recorded', `${name}.json`), `${JSON.stringify(recording)}\n`)
    for (const { label, tokens } of recording.voices)
      console.log(`\n${name}, ${label}:\n${recording.begin}${tokens.map(([text]) => text).join('')}`)
  }
} finally {
  await host.close()
  await browser.close()
}

async function record(browser: Browser, url: string, run: Run): Promise<Recording> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } })
  const fetched = new Set<string>()
  context.on('request', (request) => {
    if (request.method() === 'GET') fetched.add(new URL(request.url()).pathname.slice(1))
  })
  const page = await context.newPage()
  await page.goto(url + run.search)
  page.setDefaultTimeout(0)
  page.on('console', (message) => {
    if (message.type() === 'info') console.error(message.text())
  })
  const found = await page.evaluate(
    async (run: Run): Promise<Omit<Recording, 'version' | 'on' | 'files'>> => {
      const switcher = document.querySelector('expert-switcher')!
      const { state } = switcher
      Object.assign(switcher, {
        maxNewTokens: run.tokens,
        temperature: run.temperature,
      })
      await switcher.load()
      if (state.info === undefined) throw new Error(state.problem)
      const applyMs = async (ids: string[]) => {
        await switcher.activate(ids)
        const { apply } = state.lastSwitch!.report.phases
        console.info(`[${ids.join(', ')}] put on in ${Math.round(apply)} ms`)
        return apply
      }
      const voices = []
      for (const id of run.voices) {
        let putOnMs = 0
        let takeOffMs = 0
        if (id !== '') {
          // The first time compiles the shaders.
          await applyMs([id])
          const on: number[] = []
          const off: number[] = []
          for (let time = 0; time < run.switches; time++) {
            off.push(await applyMs([]))
            on.push(await applyMs([id]))
          }
          const median = (values: number[]) => values.sort((a, b) => a - b)[(values.length - 1) / 2]!
          putOnMs = median(on)
          takeOffMs = median(off)
        }
        const tokens: [string, number][] = []
        const onToken = (event: Event) => {
          const { text, ms } = (event as CustomEvent<{ text: string; ms: number }>).detail
          tokens.push([text, Math.round(ms)])
          console.info(`${id || 'base'}: ${Math.round(ms)} ms ${JSON.stringify(text)}`)
        }
        switcher.addEventListener('token', onToken)
        // The page draws a new one for each text; who touches the recorded run gets this one.
        switcher.seed = run.seed
        if (run.mode === 'chat') await switcher.ask(run.begin, { fresh: true })
        else {
          switcher.prompt = run.begin
          await switcher.generate()
        }
        switcher.removeEventListener('token', onToken)
        const { label, ink, bytes, replaces } = state.chosen
        if (id !== '') await applyMs([])
        voices.push({
          id,
          label: label.replace(/ \(.*\)$/, ''),
          ink,
          bytes: id === '' ? 0 : bytes,
          whole: id === '' ? 0 : (replaces?.f16Delta ?? 0),
          putOnMs: +putOnMs.toFixed(2),
          takeOffMs: +takeOffMs.toFixed(2),
          tokens,
        })
      }
      const { description, vendor, architecture, software } = state.info.adapter
      return {
        adapter: { name: description || [vendor, architecture].filter(Boolean).join(' '), software },
        begin: run.begin,
        mode: run.mode,
        temperature: run.temperature,
        seed: run.seed,
        loadMs: Math.round(state.baseLoadMs ?? 0),
        voices,
      }
    },
    run,
  )
  const folders = await page.evaluate(() => {
    const { model, experts } = document.querySelector('expert-switcher')!
    return [new URL(`${model}/`, location.href), new URL('.', new URL(experts, location.href))].map(
      ({ pathname }) => pathname.slice(1),
    )
  })
  await context.close()
  // Doors ask for the manifests of other models, too, to say how large those are.
  const used = [...fetched].filter((path) => folders.some((folder) => path.startsWith(folder)))
  const sha256 = (path: string) =>
    createHash('sha256')
      .update(readFileSync(join(PUBLIC, path)))
      .digest('hex')
  const files = Object.fromEntries(used.sort().map((path) => [path, sha256(path)]))
  return { version: 1, on: new Date().toISOString().slice(0, 10), ...found, files }
}
