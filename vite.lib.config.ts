import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'
import { engineFiles } from './scripts/engine_files.ts'
import { ASSETS, libWorkers } from './scripts/lib_workers.ts'
import { litAnywhere } from './scripts/lit_anywhere.ts'

const entry = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/**
 * The package: `lib/`. Everything is bundled, the workers with transformers.js inside, so that a page needs a script
 * tag and no bundler.
 */
export default defineConfig({
  base: './',
  publicDir: false,
  plugins: [litAnywhere(), libWorkers(), engineFiles({ folder: ASSETS, fromScripts: `./${ASSETS}` })],
  build: {
    target: 'es2022',
    outDir: 'lib',
    sourcemap: true,
    lib: {
      entry: {
        tritswap: entry('src/loader/index.ts'),
        element: entry('src/element/define.ts'),
        format: entry('src/format/index.ts'),
        compress: entry('src/compress/index.ts'),
        openai: entry('src/openai/index.ts'),
      },
      formats: ['es'],
    },
  },
})
