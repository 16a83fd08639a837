/**
 * The built library on other people's pages: two lines, from the page's own origin and from another one, each under
 * the narrowest policy that docs/EMBED.md names.
 *
 * @module
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { type ConsoleMessage, expect, type Page, test } from '@playwright/test'
import { build } from 'vite'
import { startStaticServer } from './servers/static_server.ts'
import { codeBlocks } from './support/markdown.ts'
import { card, ready } from './support/page.ts'
import { plainGraph } from './support/plain_base.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const ROOT = join(import.meta.dirname, '..')
const GUIDE = readFileSync(join(ROOT, 'docs/EMBED.md'), 'utf8')
const HOSTING = readFileSync(join(ROOT, 'docs/HOSTING.md'), 'utf8')
const README = readFileSync(join(ROOT, 'README.md'), 'utf8')
const [twoLines, withScript] = codeBlocks(GUIDE, 'html') as [string, string]
const [ownPolicy, otherPolicy] = [...GUIDE.matchAll(/^\|.*\| `(default-src [^`]+)` \|$/gm)].map(
  (match) => match[1]!,
) as [string, string]

const trustedTypes = /^Content-Security-Policy: (require-trusted-types-for .*)$/m.exec(HOSTING)![1]!

/** The library as `tritswap/`, base and experts. */
const HOSTED = { 'tritswap/': join(ROOT, 'lib'), '': join(ROOT, 'public') }

/** The code with fewer tokens in the quick tier. */
const shortened = (code: string) =>
  LONG ? code : code.replace(/(maxNewTokens|max_new_tokens|max-new-tokens)(: |=")\d+/, '$1$22')

/** Errors that the browser logs about the page. */
function complaintsOf(page: Page): string[] {
  const complaints: string[] = []
  page.on('console', (message) => {
    // The icon that browsers ask for.
    const { url } = message.location()
    if (message.type() === 'error' && !url.endsWith('/favicon.ico'))
      complaints.push(`${message.text()} ${url}`)
  })
  page.on('pageerror', (error) => complaints.push(error.message))
  return complaints
}

/** What the page logs, as it comes: a message may arrive after the title that the code sets behind it. */
function logsOf(page: Page): ConsoleMessage[] {
  const logged: ConsoleMessage[] = []
  page.on('console', (message) => {
    if (message.type() === 'log') logged.push(message)
  })
  return logged
}

async function writesWithBard(page: Page): Promise<void> {
  await ready(page)
  await page.evaluate(async () => {
    const switcher = document.querySelector('expert-switcher')!
    switcher.prompt = 'The king'
    switcher.maxNewTokens = 2
    await switcher.activate('bard')
    await switcher.generate()
  })
  await expect(page.locator('.run [data-token]')).toHaveCount(2)
  await expect(page.locator('.run .mark')).toHaveText('Bard')
}

test('two lines from another origin, under a strict policy with worker-src blob: and Trusted Types', async ({
  page,
}) => {
  const host = await startStaticServer(HOSTED, '/', { cors: true })
  const origin = host.url.slice(0, -1)
  const site = await startStaticServer({}, '/', {
    policy: `${otherPolicy.replaceAll('https://your.host', origin)}; ${trustedTypes}`,
    pages: {
      'index.html': `<!doctype html><title>Mine</title>${twoLines.replaceAll('https://your.host', origin)}`,
    },
  })
  try {
    const complaints = complaintsOf(page)
    await page.goto(site.url)
    await writesWithBard(page)
    expect(new URL(page.url()).origin).not.toBe(origin)
    // The icon that browsers ask for.
    expect(complaints).toEqual([])
  } finally {
    await site.close()
    await host.close()
  }
})

test('two lines from the own origin, in a folder, under the strictest policy', async ({ page }) => {
  // In the quick tier states.spec.ts has the built page in a folder under this policy.
  test.skip(!LONG, ONLY_LONG)
  const pages = {
    'index.html': `<!doctype html><title>Mine</title>${twoLines.replaceAll('https://your.host/', '')}`,
  }
  const host = await startStaticServer(HOSTED, '/some/where/', {
    policy: `${ownPolicy}; ${trustedTypes}`,
    pages,
  })
  try {
    const complaints = complaintsOf(page)
    await page.goto(host.url)
    await writesWithBard(page)
    expect(complaints).toEqual([])
  } finally {
    await host.close()
  }
})

test('events, methods and styles, as the guide shows them', async ({ page }) => {
  const [style] = codeBlocks(GUIDE, 'css')
  const pages = {
    'index.html': `<!doctype html><title>Mine</title><style>${style}</style>${withScript.replaceAll('https://your.host/', '')}`,
  }
  const policy = `${ownPolicy} 'unsafe-inline'; style-src 'self' 'unsafe-inline'`
  const host = await startStaticServer(HOSTED, '/', { policy, pages })
  try {
    const complaints = complaintsOf(page)
    await page.goto(host.url)
    await expect(page.locator('#who')).toHaveText('bard', { timeout: 120_000 })
    await expect(page.locator('.run [data-token]')).toHaveCount(4)
    await expect(page.locator('trit-mix details')).toBeHidden()
    await expect(card(page, 'Austen').locator('.nib')).toHaveCSS('stroke', 'rgb(0, 128, 128)')
    expect(complaints).toEqual([])
  } finally {
    await host.close()
  }
})

test('the library without the element, as guide and README show it', async ({ page }) => {
  const [quickStart] = codeBlocks(README, 'ts')
  const [guide] = codeBlocks(GUIDE, 'ts')
  const map = JSON.stringify({ imports: { tritswap: './tritswap/tritswap.js' } })
  const pageOf = (code: string) =>
    `<!doctype html><title>Mine</title><body><script type="importmap">${map}</script>
    <script type="module">${code}\ndocument.title = 'Done'</script>`
  const pages = { 'quick.html': pageOf(shortened(quickStart!)), 'guide.html': pageOf(guide!) }
  const policy = `${ownPolicy} 'unsafe-inline'`
  const host = await startStaticServer(HOSTED, '/', { policy, pages })
  try {
    const complaints = complaintsOf(page)
    const logged = logsOf(page)
    await page.goto(`${host.url}quick.html`)
    await expect(page).toHaveTitle('Done', { timeout: 120_000 })
    expect((await page.locator('body').innerText()).trim()).not.toBe('')
    if (LONG) {
      // In the quick tier snippets.test.ts compiles it.
      await page.goto(`${host.url}guide.html`)
      await expect(page).toHaveTitle('Done', { timeout: 120_000 })
      await expect.poll(() => logged.length).toBe(1)
      expect(logged[0]!.text()).not.toBe('')
    }
    expect(complaints).toEqual([])
  } finally {
    await host.close()
  }
})

/** Builds the guide's components with the package and the configuration as people have them. */
async function buildRecipes(folder: string): Promise<string> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(join(folder, 'node_modules'), { recursive: true })
  symlinkSync(ROOT, join(folder, 'node_modules/tritswap'), 'dir')
  const page = (main: string) =>
    `<!doctype html><title>Mine</title><div id="app"></div><p id="heard"></p><script type="module" src="./${main}"></script>`
  const heard = `(text) => { document.querySelector('#heard').textContent += '[' + text + ']' }`
  const files = {
    'package.json': '{ "type": "module" }',
    'vite.config.js': codeBlocks(GUIDE, 'js')[0]!,
    'Pens.jsx': codeBlocks(GUIDE, 'jsx')[0]!,
    'Pens.vue': codeBlocks(GUIDE, 'vue')[0]!,
    'react.js': `import { createElement } from 'react'
      import { createRoot } from 'react-dom/client'
      import { Pens } from './Pens.jsx'
      createRoot(document.querySelector('#app')).render(createElement(Pens, { onToken: ${heard} }))`,
    'vue.js': `import { createApp } from 'vue'
      import Pens from './Pens.vue'
      createApp(Pens, { onToken: ${heard} }).mount('#app')`,
    'react.html': page('react.js'),
    'vue.html': page('vue.js'),
  }
  for (const [name, code] of Object.entries(files)) writeFileSync(join(folder, name), code)
  const input = ['react.html', 'vue.html'].map((name) => join(folder, name))
  await build({
    root: folder,
    configFile: join(folder, 'vite.config.js'),
    logLevel: 'error',
    build: { rollupOptions: { input } },
  })
  return join(folder, 'dist')
}

test('React and Vue, as the guide shows them, built by a bundler', async ({ page }, { project }) => {
  const built = await buildRecipes(join(project.outputDir, 'recipes'))
  const host = await startStaticServer(
    { 'models/': join(ROOT, 'public/models'), 'experts/': join(ROOT, 'public/experts'), '': built },
    '/',
  )
  try {
    const complaints = complaintsOf(page)
    const assets = readdirSync(join(built, 'assets'))
    for (const name of ['engine', 'fetcher', 'ort-wasm'])
      expect(assets.filter((file) => file.startsWith(name))).not.toEqual([])
    if (!LONG) await page.route('**/models/**', () => {})
    for (const name of ['react', 'vue']) {
      await page.goto(`${host.url}${name}.html`)
      const choice = page.getByRole('button', { name: 'Bard', exact: true })
      if (LONG) {
        await ready(page)
        await choice.click()
        await expect(card(page, 'Bard').getByText('in hand')).toBeVisible()
        await page.evaluate(() => {
          document.querySelector('expert-switcher')!.maxNewTokens = 2
        })
        await page.getByRole('textbox', { name: 'Prompt' }).fill('The king')
        await page.getByRole('button', { name: 'Write' }).click()
        await expect(page.locator('#heard')).toHaveText(/^(\[[^\]]+\]){2}$/)
        await expect(page.locator('.run .mark')).toHaveText('Bard')
        continue
      }
      // In the quick tier the pages above have a base; here it is that both sides hear.
      await expect(card(page, 'Bard')).toBeVisible()
      const asked = page.evaluate(
        () =>
          new Promise((resolve) => {
            Object.assign(document.querySelector('expert-switcher')!, { activate: resolve })
          }),
      )
      await choice.click()
      expect(await asked).toEqual('bard')
      await page.evaluate(() => {
        const token = new CustomEvent('token', { detail: { text: 'Thou' } })
        document.querySelector('expert-switcher')!.dispatchEvent(token)
      })
      await expect(page.locator('#heard')).toHaveText('[Thou]')
    }
    expect(complaints).toEqual([])
  } finally {
    await host.close()
  }
})

test('transformers.js with experts attached, as the README shows it', async ({ page }) => {
  const code = shortened(codeBlocks(README, 'ts').find((block) => block.includes('attachExperts'))!)
  const require = createRequire(import.meta.url)
  const transformers = dirname(require.resolve('@xenova/transformers'))
  const ort = dirname(createRequire(join(transformers, 'x.js')).resolve('onnxruntime-web/webgpu'))
  const common = join(ort, '../../onnxruntime-common/dist/esm')
  const base = join(ROOT, 'public/models/demo')
  const graph = await plainGraph(base)
  // The hub and the host of onnxruntime-web's wasm: what transformers.js asks of them is answered from here.
  await page.route('https://huggingface.co/owner/name/resolve/main/**', (route) => {
    const path = new URL(route.request().url()).pathname.split('/resolve/main/')[1]!
    if (path === 'onnx/model.onnx') return route.fulfill({ body: Buffer.from(graph) })
    if (path === 'tritswap.json') return route.fulfill({ status: 404 })
    return route.fulfill({ path: join(base, path) })
  })
  await page.route('https://cdn.jsdelivr.net/**', (route) =>
    route.fulfill({ path: join(ort, new URL(route.request().url()).pathname.split('/').at(-1)!) }),
  )
  await page.route('**/experts/mine.trit', (route) =>
    route.fulfill({ path: join(ROOT, 'public/experts/bard.trit') }),
  )
  const imports = {
    tritswap: './tritswap/tritswap.js',
    '@huggingface/transformers': './transformers/transformers.web.js',
    'onnxruntime-web/webgpu': './ort/ort.webgpu.bundle.min.mjs',
    'onnxruntime-common': './common/index.js',
  }
  const pages = {
    'index.html': `<!doctype html><title>Mine</title><script type="importmap">${JSON.stringify({ imports })}</script>
    <script type="module">${code}\ndocument.title = 'Done'</script>`,
  }
  const folders = {
    'tritswap/': join(ROOT, 'lib'),
    'transformers/': transformers,
    'ort/': ort,
    'common/': common,
  }
  const host = await startStaticServer(folders, '/', { policy: '', pages })
  try {
    const errors: string[] = []
    page.on('pageerror', (error) => errors.push(error.message))
    const logged = logsOf(page)
    await page.goto(host.url)
    await expect(page).toHaveTitle('Done', { timeout: 120_000 })
    expect(errors).toEqual([])
    await expect.poll(() => logged.length).toBe(1)
    const [{ generated_text: text }] = (await logged[0]!.args()[0]!.jsonValue()) as [
      { generated_text: string },
    ]
    expect(text).toMatch(/^The king.+/s)
  } finally {
    await host.close()
  }
})
