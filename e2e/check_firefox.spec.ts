/** The page that checks a visitor's own GPU, in a second engine. Playwright cannot drive it, so a page around it does. */
import { json } from 'node:stream/consumers'
import { expect, test } from '@playwright/test'
import { type Plugin, preview } from 'vite'
import { missingForFirefox, openFirefox } from '../scripts/firefox.mjs'
import { LONG, ONLY_LONG } from './support/tier.ts'

interface Found {
  steps: string[]
  report: string
}

/** Starts the check in a frame, waits for its end, and sends what it found. */
const DRIVER = `<!doctype html>
<iframe src="check.html?cases=1" style="width: 800px; height: 600px"></iframe>
<script type="module">
  const frame = document.querySelector('iframe')
  const found = (selector) => [...(frame.contentDocument?.querySelectorAll(selector) ?? [])]
  const until = async (get) => {
    for (;;) {
      const result = get()
      if (result) return result
      await new Promise(requestAnimationFrame)
    }
  }
  const select = await until(() => found('select')[0])
  select.value = '64'
  select.dispatchEvent(new Event('change'))
  const buttons = found('button')
  buttons.find(({ textContent }) => textContent === 'Start').click()
  const report = await until(() => found('pre')[0]?.textContent)
  const steps = found('li').map(({ textContent }) => textContent.replace(/\\s+/g, ' ').trim())
  await fetch('found', { method: 'POST', body: JSON.stringify({ steps, report }) })
</script>`

function driver(receive: (found: Found) => void): Plugin {
  return {
    name: 'driver',
    configurePreviewServer({ middlewares }) {
      middlewares.use('/driver.html', (_request, response) => {
        response.setHeader('Content-Type', 'text/html').end(DRIVER)
      })
      middlewares.use('/found', async (request, response) => {
        receive((await json(request)) as Found)
        response.end()
      })
    },
  }
}

test('the check of a GPU in Firefox', async () => {
  test.skip(!LONG, ONLY_LONG)
  const missing = missingForFirefox()
  test.skip(missing !== undefined, missing)
  let receive: (found: Found) => void = () => {}
  const checked = new Promise<Found>((resolve) => {
    receive = resolve
  })
  const server = await preview({ logLevel: 'error', preview: { port: 0 }, plugins: [driver(receive)] })
  const firefox = openFirefox(`${server.resolvedUrls?.local[0]}driver.html`)
  try {
    const ended = firefox.ended.then((code) => {
      throw new Error(`Firefox ended with ${code}`)
    })
    const { steps, report } = await Promise.race([checked, ended])
    console.log(report)
    expect(steps).toEqual([
      expect.stringMatching(/right This GPU: .*software/),
      expect.stringMatching(/right Kernels: all \d+ match/),
      expect.stringMatching(/right Qwen2.5-0.5B: 168 tensors, .*a switch takes/),
      expect.stringMatching(/right SmolLM2-135M: 272 tensors, .*a switch takes/),
      expect.stringMatching(/right The demo: a switch/),
    ])
    expect(report).toContain('weights after all switches: the base again, bit for bit')
  } finally {
    await firefox.close()
    await server.close()
  }
})
