/**
 * Writes what is generated from docstrings: the API reference in `docs/api`, `custom-elements.json`, and the element's types
 * for JSX and Vue in `types`. With `--check` it writes nothing and fails where they are not what the sources say.
 *
 * @module
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Application, TSConfigReader, TypeDocReader } from 'typedoc'
import { bin, root } from './setup.mjs'

const REFERENCE = 'docs/api'

const app = await Application.bootstrapWithPlugins({ options: join(root, 'typedoc.json') }, [
  new TypeDocReader(),
  new TSConfigReader(),
])
const project = await app.convert()
if (project === undefined) process.exit(1)
ownFirst(project)

const files = { ...(await reference(project)), ...(await element()) }
process.exitCode = process.argv.includes('--check') ? check(files) : write(files)

/**
 * Puts what a module's own file declares before what it passes on: pages begin with what people came for.
 *
 * @param {import('typedoc').ProjectReflection} project
 */
function ownFirst(project) {
  for (const module of project.getReflectionsByKind(ReflectionKind.Module)) {
    const file = project.getSymbolIdFromReflection(module)?.fileName
    /** @param {import('typedoc').Reflection} reflection */
    const isOther = (reflection) => Number(project.getSymbolIdFromReflection(reflection)?.fileName !== file)
    const { groups = [] } = /** @type {import('typedoc').DeclarationReflection} */ (module)
    for (const group of groups) group.children.sort((a, b) => isOther(a) - isOther(b))
  }
}

/** The reference by path. @param {import('typedoc').ProjectReflection} project */
async function reference(project) {
  const folder = mkdtempSync(join(tmpdir(), 'tritswap-docs-'))
  try {
    app.options.setValue('outputs', [{ name: 'markdown', path: folder }])
    await app.generateOutputs(project)
    /** @type {Record<string, string>} */
    const files = {}
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (name.endsWith('.md')) files[`${REFERENCE}/${name}`] = readFileSync(join(folder, name), 'utf8')
    }
    return files
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The element for editors and frameworks, by path: of its docstrings, by the analyzer of custom elements. */
async function element() {
  // Below the root: the analyzer takes no other folder.
  const folder = '.cache/element'
  mkdirSync(join(root, folder), { recursive: true })
  const args = ['analyze', '--config', 'custom-elements-manifest.config.mjs', '--quiet', '--outdir', folder]
  execFileSync(bin('custom-elements-manifest'), args, {
    cwd: root,
    env: { ...process.env, ELEMENT_TYPES: folder },
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  })
  /** @param {string} name */
  const read = (name) => readFileSync(join(root, folder, name), 'utf8')
  return {
    'custom-elements.json': read('custom-elements.json'),
    'types/jsx.d.ts': read('jsx.d.ts'),
    'types/vue.d.ts': read('vue.d.ts'),
  }
}

/** @param {Record<string, string>} files */
function write(files) {
  rmSync(join(root, REFERENCE), { recursive: true, force: true })
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  return 0
}

/** @param {Record<string, string>} files */
function check(files) {
  const stale = Object.keys(files).filter((path) => {
    const file = join(root, path)
    return !existsSync(file) || readFileSync(file, 'utf8') !== files[path]
  })
  if (stale.length === 0) return 0
  console.error(`Not what the docstrings say: ${stale.join(', ')}; run "npm run docs"`)
  return 1
}
