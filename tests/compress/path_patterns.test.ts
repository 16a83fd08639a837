import { describe, expect, test } from 'vitest'
import { PathPatterns, wholePathMatcher } from '../../src/compress/path_patterns.ts'

const WHERE = { name: 'adapter', field: 'alpha_pattern' }
const PATH = 'model.layers.12.self_attn.q_proj'

async function found(patterns: Record<string, number>, path = PATH) {
  return (await PathPatterns.compile(Object.entries(patterns), WHERE)).valueOf(path)
}

describe('patterns of rank and alpha mean what they mean in Python', () => {
  // Whether re.match(rf"(.*\.)?({key})$", PATH) matches in Python 3.11.
  test.each([
    ['q_proj', true],
    ['proj', false],
    ['self.attn.q_proj', true],
    [String.raw`layers\.12\.self_attn\.q_proj\Z`, true],
    [String.raw`layers\.\d{,2}\.self_attn\.q_proj`, true],
    [String.raw`layers\.\d{,1}\.self_attn\.q_proj`, false],
    ['layers.(?P<layer>[0-9]+).self_attn.q_proj', true],
    ['(?i:Q_PROJ)', true],
    ['(?:q|k)_proj', true],
    ['q_proj|k_proj', true],
    ['[^.]+_proj', true],
    ['[[:alpha:]]_proj', false],
    [String.raw`\w+`, true],
    [String.raw`[\w.]+?`, true],
    [String.raw`\x71_proj`, true],
    [String.raw`q\_proj`, true],
    ['q_proj(?#the query)', true],
    ['^model.layers.12.self_attn.q_proj', true],
    ['^layers.12.self_attn.q_proj', false],
    [String.raw`.*\.q{1}_proj`, true],
    ['q_proj{}', false],
    ['', false],
  ])('%s', async (key, matches) => {
    expect(await found({ [key]: 8 })).toBe(matches ? 8 : undefined)
  })

  test.each([
    ['(?=q)q_proj', /looks ahead/],
    ['(?!k)._proj', /looks ahead/],
    ['(?<=q)_proj', /looks behind/],
    ['(?<!k)_proj', /looks behind/],
    ['(?P<a>q)(?P=a)', /refers back/],
    [String.raw`(q)\1`, /refers back/],
    ['(?>q)_proj', /atomic/],
    ['q++_proj', /possessively/],
    ['(?x) q_proj', /flag or group/],
    [String.raw`\p{L}`, /no translation/],
    ['q**', /repeats nothing, or twice/],
    ['q_proj)', /without/],
    ['(q_proj', /without/],
    ['[q', /ends too early/],
    ['q{1001}', /linear-time engine/],
    ['q{2,1}', /at least 2 and at most 1/],
    ['(?i)é', /beyond ASCII/],
    ['a'.repeat(1500).concat('+'), /characters/],
  ])('%s is refused by name', async (key, message) => {
    await expect(found({ [key]: 8 })).rejects.toMatchObject({ tag: 'unsupported', message })
    if (key.length < 100) await expect(found({ [key]: 8 })).rejects.toThrow(key)
  })

  test('the first that matches counts, unless JSON has lost which is the first', async () => {
    expect(await found({ k_proj: 1, '.*_proj': 2, q_proj: 3 })).toBe(2)
    expect(await found({ 'mlp.0': 8, '1': 16 }, 'mlp.0')).toBe(8)
    await expect(found({ 'mlp.0': 8, '0': 16 }, 'mlp.0')).rejects.toThrow(/both match mlp\.0/)
  })

  test('letters beyond ASCII are refused only where they matter', async () => {
    expect(await found({ q_proj: 8 }, 'modèle.q_proj')).toBe(8)
    await expect(found({ '\\w+.q_proj': 8 }, 'modèle.q_proj')).rejects.toThrow(/modèle/)
  })

  test('feedforward_modules as a text match the whole path', async () => {
    const matches = await wholePathMatcher(String.raw`.*\.(fc1|fc2)`, WHERE)
    expect([matches('a.fc2'), matches('a.fc2.b'), matches('fc2')]).toEqual([true, false, false])
  })
})

describe('none takes for ever', () => {
  test.each(['(a+)+X', '(a|a)*X', '(.*a){12}X', '(a?){500}a{500}X'])('%s', async (key) => {
    expect(await found({ [key]: 8 }, 'a'.repeat(500))).toBeUndefined()
  })

  test('many large ones on many paths are stopped by a limit', async () => {
    const patterns = Array.from({ length: 60 }, (_, i) => [`(a?){500}a{400}${i}`, 1] as const)
    const run = async () => {
      const compiled = await PathPatterns.compile(patterns, WHERE)
      for (let i = 0; i < 10_000; i++) compiled.valueOf(`${'a'.repeat(400)}${i}`)
    }
    await expect(run()).rejects.toMatchObject({ tag: 'limit', message: /alpha_pattern takes too long/ })
  })
})
