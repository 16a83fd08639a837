import { createRequire } from 'node:module'
import type { Plugin } from 'vite'

const LIT = /^(lit|lit-html|lit-element|@lit\/reactive-element)(\/|$)/

/** What lit takes from here where there is no DOM. */
const SHIM = '@lit-labs/ssr-dom-shim'
/**
 * The shim itself copies all properties of the global object when it is loaded, and in a sandboxed frame reading some of them
 * throws (`localStorage`). Of it lit needs only what a class extends and registers with.
 */
const OWN_SHIM = `
export const HTMLElement = globalThis.HTMLElement ?? class {}
export const customElements = globalThis.customElements ?? { define() {}, get() {} }
`

/**
 * Bundles the build of lit that does without a DOM until something is rendered: servers import what they will render in
 * the browser. In a browser it does the same as the other one.
 */
export function litAnywhere(): Plugin {
  return {
    name: 'tritswap:lit-anywhere',
    enforce: 'pre',
    resolveId(source, importer) {
      if (source === SHIM) return `\0${SHIM}`
      // Node's resolution takes the files that lit has for Node.
      return importer !== undefined && LIT.test(source) ? createRequire(importer).resolve(source) : undefined
    },
    load: (id) => (id === `\0${SHIM}` ? OWN_SHIM : undefined),
  }
}
