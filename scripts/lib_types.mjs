/**
 * The declarations of the package: one file an entry in `lib/`, with what entries share in files between them, from those
 * that `tsc -p tsconfig.lib.json` wrote. A project that checks the declarations of its libraries then needs no other
 * package, and sees nothing that is not exported.
 *
 * @module
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { rollup } from 'rollup'
import { dts } from 'rollup-plugin-dts'
import { root } from './setup.mjs'

const FROM = join(root, '.cache/types')
const OUT = join(root, 'lib')

/** @type {{ exports: Record<string, { types?: string }> }} */
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
/** Entries of package.json by their names in `lib`. */
const SOURCES = {
  tritswap: 'loader/index.d.ts',
  element: 'element/define.d.ts',
  format: 'format/index.d.ts',
  compress: 'compress/index.d.ts',
  openai: 'openai/index.d.ts',
}
for (const { types } of Object.values(exports)) {
  if (types !== undefined && !Object.keys(SOURCES).some((name) => types === `./lib/${name}.d.ts`))
    throw new Error(`Cannot write ${types}: scripts/lib_types.mjs does not know its source`)
}

for (const name of readdirSync(OUT)) if (name.endsWith('.d.ts')) rmSync(join(OUT, name))
const bundle = await rollup({
  input: Object.fromEntries(Object.entries(SOURCES).map(([name, path]) => [name, join(FROM, path)])),
  plugins: [dts({ includeExternal: ['lit', 'lit-html', 'lit-element', '@lit/reactive-element'] })],
})
await bundle.write({ dir: OUT, entryFileNames: '[name].d.ts', chunkFileNames: '[name]-[hash].d.ts' })
await bundle.close()
