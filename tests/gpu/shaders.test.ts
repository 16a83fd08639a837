import { describe, expect, test } from 'vitest'
import { SKETCH_VALUES } from '../../src/format/limits.ts'
import { constantsIn, shaderConstants } from '../../src/gpu/shader_constants.ts'
import { assemble, declarationsOf, SOURCES } from '../../src/gpu/shaders.ts'
import { KERNELS } from './conformance/kernels.ts'

/** Modules that stand for others, in one variant. */
const ALIASES = {
  workgroup: 'workgroup_64',
  lanes: 'lanes_8',
  target: 'target_f32',
  journal: 'journal_f32',
  terms_tile: 'terms_tile_f32',
  displaced: 'displaced_f32',
}

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

  test('what a module requires has to be declared by its importers, and by nothing less', () => {
    const reader = '#requires arena, size\nfn read() -> u32 { return arena[size]; }'
    const arena = '@group(0) @binding(2) var<storage, read> arena: array<u32>;\n'
    const kernel = (before: string) => ({ kernel: `#import reader\n${before}fn kernel() {}`, reader })
    expect(assemble('kernel', {}, kernel(`${arena}const size = 4u;\n`))).not.toContain('#')
    for (const sizeless of [arena, `${arena}// const size\n`, `${arena}fn f() { let size = 4u; }\n`]) {
      expect(() => assemble('kernel', {}, kernel(sizeless))).toThrow(
        expect.objectContaining({
          tag: 'webgpu',
          message: expect.stringContaining('reader requires size, which nothing declares'),
          fields: { kernel: 'kernel', importer: 'reader', missing: 'size' },
        }),
      )
    }
  })
})

describe('shader constants', () => {
  test('are read by name, whatever their type; expressions are none', () => {
    const code = `const A = 8u;
const B: f32 = -0.5;
const C = 0xff;
@id(3) override D: u32 = 64u;
const E = 2u * A;
fn f() {
  const G = 1u;
}`
    expect(Object.fromEntries(constantsIn(code))).toEqual({ A: 8, B: -0.5, C: 255, D: 64 })
  })

  test('one that the file does not declare throws', () => {
    expect(shaderConstants('a', ['X'], { a: 'const X = 1u;' }).X).toBe(1)
    expect(() => shaderConstants('a', ['Y'], { a: 'const X = 1u;' })).toThrow(/a\.wgsl does not declare it/)
    expect(() => shaderConstants('b', ['X'], {})).toThrow(/b\.wgsl/)
  })
})

describe('shaders/', () => {
  const kernels = Object.keys(SOURCES).filter((name) => SOURCES[name].includes('@compute'))

  test('a kernel has an entry point of its name, a twin of its file name and an entry for conformance', () => {
    const twins = Object.keys(import.meta.glob('./twins/*.ts')).map((path) =>
      path.replace(/^.*\/|\.ts$/g, ''),
    )
    for (const name of kernels) {
      expect(SOURCES[name]).toContain(`fn ${name}(`)
      expect(twins).toContain(name)
    }
    expect(Object.keys(KERNELS).sort()).toEqual(kernels.sort())
  })

  test.each(Object.keys(SOURCES))('%s imports or requires all that it uses', (name) => {
    const everything = new Set(Object.values(SOURCES).flatMap((code) => [...declarationsOf(code)]))
    const own = SOURCES[name].replace(/\/\/.*$/gm, '')
    const required = /^#requires (.*)$/m.exec(own)?.[1].split(', ') ?? []
    const stubs = required.map((missing) => `const ${missing} = 0u;\n`).join('')
    const closed = { ...SOURCES, [name]: SOURCES[name] + stubs }
    // What the modules that it imports require is declared by the kernels.
    for (const other of Object.keys(closed))
      if (other !== name) closed[other] = closed[other].replace(/^#requires.*$/gm, '')
    const inReach = declarationsOf(assemble(name, ALIASES, closed))
    const local = new Set(
      Array.from(own.matchAll(/\b(?:let|var|const) +(\w+)|\b(\w+) *:/g), ([, a, b]) => a ?? b),
    )
    const used = Array.from(own.replace(/^#.*$/gm, '').matchAll(/(?<![\w.@])[A-Za-z_]\w*/g), ([word]) => word)
    const missing = used.filter((word) => everything.has(word) && !inReach.has(word) && !local.has(word))
    expect([...new Set(missing)]).toEqual([])
  })

  test('`gather` and `gather_nbits` take as many positions as a sketch has', () => {
    for (const name of ['gather', 'gather_nbits'])
      expect(SOURCES[name]).toContain(`@workgroup_size(${SKETCH_VALUES})`)
  })
})
