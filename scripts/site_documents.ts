import { copyFileSync, mkdirSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Plugin } from 'vite'

/** Copies README, guides and licence beside the page, which links to them. */
export function siteDocuments(): Plugin {
  let root = ''
  let outDir = ''
  return {
    name: 'tritswap:site-documents',
    apply: 'build',
    configResolved(config) {
      root = config.root
      outDir = resolve(config.root, config.build.outDir)
    },
    writeBundle() {
      mkdirSync(join(outDir, 'docs'), { recursive: true })
      for (const name of ['README.md', 'LICENSE', 'NOTICE'])
        copyFileSync(join(root, name), join(outDir, name))
      for (const name of readdirSync(join(root, 'docs')))
        if (name.endsWith('.md')) copyFileSync(join(root, 'docs', name), join(outDir, 'docs', name))
    },
  }
}
