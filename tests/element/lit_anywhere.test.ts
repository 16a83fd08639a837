import { afterEach, expect, test } from 'vitest'
import { litAnywhere } from '../../scripts/lit_anywhere.ts'

afterEach(() => Reflect.deleteProperty(globalThis, 'localStorage'))

test('what lit is given in place of its shim reads nothing that a sandboxed frame forbids', async () => {
  const plugin = litAnywhere() as unknown as {
    resolveId(source: string, importer: string): string
    load(id: string): string
  }
  const code = plugin.load(plugin.resolveId('@lit-labs/ssr-dom-shim', import.meta.url))
  Object.defineProperty(globalThis, 'localStorage', {
    configurable: true,
    enumerable: true,
    get() {
      throw new DOMException('The document is sandboxed', 'SecurityError')
    },
  })
  const shim = await import(/* @vite-ignore */ `data:text/javascript,${encodeURIComponent(code)}`)
  expect(new (class extends shim.HTMLElement {})()).toBeInstanceOf(shim.HTMLElement)
  expect(() => shim.customElements.define('x-y', class {})).not.toThrow()
})
