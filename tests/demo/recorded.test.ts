/** The recorded runs that the page shows first are of the files that are here. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseRecording } from '../../src/demo/recording.ts'
import { parseRegistry } from '../../src/source/registry.ts'

const PUBLIC = join(import.meta.dirname, '../../public')
const names = readdirSync(join(PUBLIC, 'recorded'))

test('the page has one to show', () => {
  expect(names).toContain('writers.json')
})

describe.each(names)('%s', (name) => {
  const text = readFileSync(join(PUBLIC, 'recorded', name), 'utf8')
  const { files, voices } = parseRecording(JSON.parse(text), name)

  test('was made of the files that are here; "npm run record" makes it anew', () => {
    const stale = Object.entries(files).filter(([path, hash]) => {
      const file = join(PUBLIC, path)
      return !existsSync(file) || createHash('sha256').update(readFileSync(file)).digest('hex') !== hash
    })
    expect(stale.map(([path]) => path)).toEqual([])
  })

  test('used the model, and the file of every voice', () => {
    const paths = Object.keys(files)
    expect(paths.some((path) => /^models\/.*\.trit/.test(path))).toBe(true)
    const registry = paths.find((path) => path.endsWith('/experts.json'))!
    const { experts } = parseRegistry(readFileSync(join(PUBLIC, registry), 'utf8'))
    for (const { id, bytes } of voices.filter((voice) => voice.id !== '')) {
      const entry = experts.find((each) => each.id === id)
      expect(entry?.bytes).toBe(bytes)
      expect(paths).toContain(join(registry, '..', entry!.url))
    }
  })

  test('is small', () => {
    expect(text.length).toBeLessThan(16_000)
  })
})

describe('a recording that was written by hand is refused by what is wrong with it', () => {
  const good = JSON.parse(readFileSync(join(PUBLIC, 'recorded/writers.json'), 'utf8'))
  const voice = good.voices[0]
  test.each<[string, unknown, RegExp]>([
    ['nothing', null, /version 1/],
    ['another version', { ...good, version: 2 }, /\/version/],
    ['no voice', { ...good, voices: [] }, /\/voices/],
    ['a number for tokens', { ...good, voices: [{ ...voice, tokens: 7 }] }, /\/voices\/0\/tokens/],
    ['a text for a time', { ...good, voices: [{ ...voice, tokens: [['a', 'b']] }] }, /tokens\/0\/1/],
    ['a negative size', { ...good, voices: [{ ...voice, bytes: -1 }] }, /\/voices\/0\/bytes/],
    ['no day', { ...good, on: '<img>' }, /\/on/],
  ])('%s', (_, value, said) => {
    expect(() => parseRecording(value, 'x.json')).toThrowError(said)
  })
})
