import { describe, expect, test } from 'vitest'
import { assemble, SOURCES } from '../../src/gpu/shaders.ts'

describe('shader assembly', () => {
  test('pastes a module once, however often it is imported', () => {
    const sources = {
      kernel: '#import a\n#import b\nfn kernel() {}',
      a: '#import b\nfn a() {}',
      b: 'fn b() {}',
    }
    expect(assemble('kernel', {}, sources)).toBe('fn b() {}\nfn a() {}\n\nfn kernel() {}')
  })

  test('survives modules that import each other', () => {
    expect(assemble('a', {}, { a: '#import b\nA', b: '#import a\nB' })).toBe('\nB\nA')
  })

  test('an alias stands in for a module', () => {
    expect(assemble('kernel', { target: 'half' }, { kernel: '#import target', half: 'H', full: 'F' })).toBe(
      'H',
    )
  })

  test('an unknown import throws and says who wants it', () => {
    expect(() => assemble('kernel', {}, { kernel: '#import nothing' })).toThrow(/kernel imports nothing/)
  })

  test('every kernel of shaders/ has an entry point of its own name and a twin of the same file name', () => {
    const twins = Object.keys(import.meta.glob('./twins/*.ts')).map((path) =>
      path.replace(/^.*\/|\.ts$/g, ''),
    )
    const kernels = Object.entries(SOURCES).filter(([, text]) => text.includes('@compute'))
    expect(kernels.length).toBeGreaterThan(10)
    for (const [name, text] of kernels) {
      expect(text).toContain(`fn ${name}(`)
      expect(twins).toContain(name)
    }
  })
})
