import { createRequire } from 'node:module'
import type { Plugin } from 'vite'

const LIT = /^(lit|lit-html|lit-element|@lit\/reactive-element)(\/|$)/

/**
 * Bundles the build of lit that does without a DOM until something is rendered: servers import what they will render in
 * the browser. In a browser it does the same as the other one.
 */
export function litAnywhere(): Plugin {
  return {
    name: 'tritswap:lit-anywhere',
    enforce: 'pre',
    // Node's resolution takes the files that lit has for Node.
    resolveId: (source, importer) =>
      importer !== undefined && LIT.test(source) ? createRequire(importer).resolve(source) : undefined,
  }
}
