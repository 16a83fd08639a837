import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig, type Plugin } from 'vite'
import { engineFiles } from './scripts/engine_files.ts'
import { precompressed } from './scripts/precompressed.ts'
import { siteDocuments } from './scripts/site_documents.ts'

/** Empties `dist/` but for the command line, which `npm run build:cli` puts there. */
function emptySite(): Plugin {
  return {
    name: 'tritswap:empty-site',
    apply: 'build',
    configResolved({ root, build }) {
      const dist = join(root, build.outDir)
      try {
        for (const name of readdirSync(dist)) {
          if (name !== 'cli' && name !== 'cli.js') rmSync(join(dist, name), { recursive: true })
        }
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      }
    },
  }
}

/** The page: `dist/` is a static site that works under any path of any host. */
export default defineConfig({
  base: './',
  // A plain static host: what is not there is a 404, not the page.
  appType: 'mpa',
  plugins: [emptySite(), engineFiles(), precompressed(), siteDocuments()],
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    emptyOutDir: false,
    rolldownOptions: { input: ['index.html', 'check.html'] },
  },
  server: { port: 5173 },
  preview: { port: 5173 },
})
