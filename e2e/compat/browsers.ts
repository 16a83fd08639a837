/**
 * The browsers in which models are tried. Each call gets a page of its own: transformers.js does nothing any more once a
 * session of a page has failed.
 *
 * @module
 */
import { json } from 'node:stream/consumers'
import { chromium } from 'playwright'
import type { ViteDevServer } from 'vite'
import { chromiumLaunchOptions } from '../../scripts/chromium.mjs'
import { missingForFirefox, openFirefox } from '../../scripts/firefox.mjs'
import type { Compat } from './page.ts'
import type { Job, JobResult } from './protocol.ts'

export const BROWSERS = ['chromium', 'firefox'] as const
export type BrowserName = (typeof BROWSERS)[number]

export interface CompatBrowser {
  hasF16(): Promise<boolean>
  run(job: Job): Promise<JobResult>
  close(): Promise<void>
}

/** One of the two calls, for a page that asks what to do. */
export interface Asked {
  name: 'hasF16' | 'run'
  job?: Job
}

export type Answer = { result: unknown } | { error: string }

/** @param server - that has the page @param flags - of Chromium */
export function openBrowser(
  name: BrowserName,
  server: ViteDevServer,
  flags: readonly string[],
): Promise<CompatBrowser> {
  const url = `${server.resolvedUrls?.local[0]}e2e/compat/`
  return name === 'chromium' ? openChromium(url, flags) : openFirefoxes(url, server)
}

async function openChromium(url: string, flags: readonly string[]): Promise<CompatBrowser> {
  const browser = await chromium.launch({ headless: true, ...chromiumLaunchOptions(flags) })
  const inPage = async <R>({ name, job }: Asked): Promise<R> => {
    const page = await browser.newPage()
    try {
      await page.goto(url)
      await page.waitForFunction(() => 'compat' in window)
      return (await page.evaluate(
        ([call, wanted]): Promise<unknown> => (window.compat as Compat)[call](wanted!),
        [name, job] as const,
      )) as R
    } finally {
      await page.close()
    }
  }
  return {
    hasF16: () => inPage({ name: 'hasF16' }),
    run: (job) => inPage({ name: 'run', job }),
    close: () => browser.close(),
  }
}

/** Stock Firefox has no driver: its pages ask for their calls, one Firefox each. */
async function openFirefoxes(url: string, server: ViteDevServer): Promise<CompatBrowser> {
  const missing = missingForFirefox()
  if (missing !== undefined) throw new Error(`Cannot try models in Firefox: ${missing}`)
  let asked: Asked
  let receive: (answer: Answer) => void
  // Before Vite's own: it would look for files of these names.
  server.middlewares.stack.unshift(
    {
      route: '/asked',
      handle: (_: unknown, response: { end(body: string): void }) => response.end(JSON.stringify(asked)),
    },
    {
      route: '/answer',
      handle: async (request: NodeJS.ReadableStream, response: { end(): void }) => {
        receive((await json(request)) as Answer)
        response.end()
      },
    },
  )
  const inPage = async <R>(wanted: Asked): Promise<R> => {
    asked = wanted
    const answered = new Promise<Answer>((resolve) => {
      receive = resolve
    })
    const firefox = openFirefox(`${url}?asked`)
    try {
      const ended = firefox.ended.then((code): Answer => ({ error: `Firefox ended with ${code}` }))
      const answer = await Promise.race([answered, ended])
      if ('error' in answer) throw new Error(answer.error)
      return answer.result as R
    } finally {
      await firefox.close()
    }
  }
  return {
    hasF16: () => inPage({ name: 'hasF16' }),
    run: (job) => inPage({ name: 'run', job }),
    close: async () => {},
  }
}
