import { copyFile, mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { TritswapError } from '../errors.ts'
import { forceOption, newCommand } from './command.ts'
import { formatBytes } from './format_text.ts'
import { refuseTakenFolder } from './output.ts'
import { print } from './print.ts'

const DESCRIPTION = `
Copies the files that the library fetches at run time into a folder that you publish: two workers, onnxruntime-web's
WebAssembly with its glue code, and the library of grammars for answers in JSON. Only needed where your bundler does not
emit them (esbuild), or to have them at an address of their own. Tell the library the address of that folder: ExpertLoader.create({ assets: '/tritswap' }), or the attribute
assets of the element.
`

const EXAMPLES = ['tritswap assets public/tritswap']

/** Beside `dist/cli.js` and its folder `dist/cli`, one of which this is in. */
const PACKAGED = ['../lib/assets/', '../../lib/assets/']

export function command() {
  return newCommand('assets', DESCRIPTION, EXAMPLES)
    .argument('<folder>')
    .addOption(forceOption())
    .action(copyAssets)
}

async function copyAssets(folder: string, { force }: { force?: true }): Promise<void> {
  const from = await packagedAssets()
  await refuseTakenFolder(folder, force)
  await mkdir(folder, { recursive: true })
  for (const name of await readdir(from)) {
    if (name.endsWith('.map')) continue
    const to = join(folder, name)
    await copyFile(join(from, name), to)
    print(`${to}, ${formatBytes((await stat(to)).size)}`)
  }
}

async function packagedAssets(): Promise<string> {
  for (const path of PACKAGED) {
    const folder = fileURLToPath(new URL(path, import.meta.url))
    if ((await stat(folder).catch(() => undefined))?.isDirectory()) return folder
  }
  throw new TritswapError(
    'input',
    'Cannot copy the assets: this command line was not installed with the library; in the repository, run npm run build:lib first',
  )
}
