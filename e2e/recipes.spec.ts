/**
 * The package in other people's projects: each of `e2e/recipes` is installed from what `npm pack` makes, outside of the
 * repository, built by its own bundler, and writes with an expert in Chromium. The table of docs/FRAMEWORKS.md is what
 * this test prints; it installs from the npm registry.
 *
 * @module
 */
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, type Page, test } from '@playwright/test'
import { startStaticServer } from './servers/static_server.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const ROOT = join(import.meta.dirname, '..')
const RECIPES = join(import.meta.dirname, 'recipes')
const DOCUMENT = join(ROOT, 'docs/FRAMEWORKS.md')
/** `RECIPES=write` puts the rows into the document instead of comparing them. */
const WRITES = process.env.RECIPES === 'write'

interface Recipe {
  /** How the table calls it. */
  name: string
  folder: string
  /** The tool whose version counts. */
  tool: string
  build: readonly string[]
  /** What the build writes. */
  out: string
  /** What a developer has to copy or to say beyond importing the package. */
  extra: string
}

const NOTHING = 'nothing'
const EXCLUDE = "in development `optimizeDeps: { exclude: ['tritswap'] }`"
const npmBuild = ['npm', 'run', 'build']
const ALL: readonly Recipe[] = [
  {
    name: 'Next.js, App Router, Turbopack',
    folder: 'next',
    tool: 'next',
    build: npmBuild,
    out: 'out',
    extra: NOTHING,
  },
  {
    name: 'Next.js, App Router, webpack',
    folder: 'next',
    tool: 'next',
    build: ['npm', 'run', 'build', '--', '--webpack'],
    out: 'out',
    extra: NOTHING,
  },
  {
    name: 'SvelteKit',
    folder: 'sveltekit',
    tool: '@sveltejs/kit',
    build: npmBuild,
    out: 'build',
    extra: EXCLUDE,
  },
  {
    name: 'Nuxt, generated',
    folder: 'nuxt',
    tool: 'nuxt',
    build: npmBuild,
    out: '.output/public',
    extra: `\`overrides: { unstorage: '1.17.5' }\` while 1.17.6 fails to prerender, with or without tritswap; ${EXCLUDE}`,
  },
  { name: 'Vite and Vue', folder: 'vue', tool: 'vite', build: npmBuild, out: 'dist', extra: EXCLUDE },
  {
    name: 'Vite and React',
    folder: 'vite-react',
    tool: 'vite',
    build: npmBuild,
    out: 'dist',
    extra: EXCLUDE,
  },
  { name: 'webpack', folder: 'webpack', tool: 'webpack', build: npmBuild, out: 'dist', extra: NOTHING },
  {
    name: 'esbuild',
    folder: 'esbuild',
    tool: 'esbuild',
    build: npmBuild,
    out: 'dist',
    extra: '`tritswap assets dist/assets`, and the option `assets`',
  },
  {
    name: 'import map, no bundler',
    folder: 'import-map',
    tool: 'tritswap',
    build: npmBuild,
    out: 'dist',
    extra: '`node_modules/tritswap/lib`, whole',
  },
]
/** `RECIPES_IN=<folder>` keeps what is installed there, so that a run that was cut goes on. */
const KEPT = process.env.RECIPES_IN
/** `ONLY=next` runs some alone. */
const ASKED = ALL.filter(({ folder }) => (process.env.ONLY ?? folder).split(',').includes(folder))

let place: string
let tarball: string
const rows: string[] = []

test.describe
  .serial('recipes', () => {
    test.skip(!LONG && process.env.ONLY === undefined, ONLY_LONG)
    test.setTimeout(1_800_000)

    test.beforeAll(async () => {
      test.setTimeout(600_000)
      place = KEPT ?? mkdtempSync(join(tmpdir(), 'tritswap-recipes-'))
      await run(ROOT, ['npm', 'pack', '--ignore-scripts', '--pack-destination', place])
      tarball = join(place, readdirSync(place).find((file) => file.endsWith('.tgz'))!)
    })
    test.afterAll(() => {
      if (KEPT === undefined) rmSync(place, { recursive: true, force: true })
    })

    for (const recipe of ASKED) {
      test(recipe.name, async ({ page }) => {
        const project = join(place, recipe.folder)
        if (!existsSync(join(project, 'node_modules/tritswap'))) {
          cpSync(join(RECIPES, recipe.folder), project, { recursive: true })
          await run(project, ['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', tarball])
        }
        const out = join(project, recipe.out)
        rmSync(out, { recursive: true, force: true })
        await run(project, recipe.build)
        const text = await writes(page, out)
        const { version } = JSON.parse(
          readFileSync(join(project, 'node_modules', recipe.tool, 'package.json'), 'utf8'),
        )
        rows.push(
          `| [${recipe.name}](../e2e/recipes/${recipe.folder}) | ${recipe.tool} ${version} | ${recipe.extra} | none | ${JSON.stringify(text)} |`,
        )
      })
    }

    test('the table of the document is what was seen', () => {
      const text = readFileSync(DOCUMENT, 'utf8')
      const [found] = /^\| recipe \|[\s\S]*?(?=\n\n)/m.exec(text)!
      const [head, rule, ...documented] = found.split('\n')
      const rowOf = ({ name }: Recipe, from: readonly string[]) =>
        from.find((row) => row.startsWith(`| [${name}]`))
      // Those that were left out this time stand there as they were seen before.
      const seen = ALL.map((recipe) => rowOf(recipe, rows) ?? rowOf(recipe, documented))
      const table = [head, rule, ...seen].join('\n')
      console.log(table)
      if (WRITES) writeFileSync(DOCUMENT, text.replace(found, table))
      else expect(found).toBe(table)
    })
  })

/** Runs a command of a project; its output is the error where it fails. */
async function run(cwd: string, [command, ...args]: readonly string[]): Promise<void> {
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NUXT_TELEMETRY_DISABLED: '1', CI: '1' }
  await promisify(execFile)(command!, args, { cwd, env, maxBuffer: 1 << 26 }).catch((error) => {
    throw new Error(`${[command, ...args].join(' ')} failed:\n${error.stdout}\n${error.stderr}`)
  })
}

/** What the built project writes, as plain files on the server that has base and experts, too. */
async function writes(page: Page, out: string): Promise<string> {
  const failed: string[] = []
  page.on('pageerror', ({ message }) => failed.push(message))
  const server = await startStaticServer(
    { 'models/': join(ROOT, 'public/models'), 'experts/': join(ROOT, 'public/experts'), '': out },
    '/',
    { policy: '' },
  )
  try {
    await page.goto(server.url)
    await page.getByRole('button', { name: 'Write' }).click({ timeout: 300_000 })
    const output = page.locator('output')
    // All that it writes: a comma, an end of line and two words.
    await expect(output).toHaveText(/\S+\s+\S+\s+\S+/, { timeout: 300_000 })
    expect(failed).toEqual([])
    return (await output.textContent())!
  } finally {
    await server.close()
  }
}
