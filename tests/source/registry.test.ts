import { readFileSync } from 'node:fs'
import Ajv from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type FaultServer, startFaultServer } from '../../e2e/servers/fault_server.ts'
import { parseRegistry, readRegistry } from '../../src/source/registry.ts'

const schema = JSON.parse(readFileSync(new URL('../../schema/experts.schema.json', import.meta.url), 'utf8'))
const entry = { id: 'austen', label: 'Austen', url: 'austen.trit', bytes: 1000, rootHash: 'a'.repeat(64) }
const registry = (...experts: unknown[]) => ({
  version: 1,
  base: { name: 'demo', fingerprint: 'b'.repeat(64) },
  experts,
})

const good: Record<string, unknown> = {
  'no experts': registry(),
  'the least': registry(entry),
  'all fields': registry({
    ...entry,
    description: 'Reads like Emma',
    method: 'lora',
    density: 0.05,
    alpha: 1.5,
    licence: 'Apache-2.0',
    prompt: 'It was',
    system: 'Write like Austen.',
    generation: {
      maxNewTokens: 64,
      temperature: 0.7,
      topK: 40,
      topP: 0.9,
      minP: 0.05,
      repetitionPenalty: 1.1,
      stop: ['###', 'END'],
    },
    text: '../texts/austen.txt',
    variantOf: 'other',
    replaces: { f16Delta: 1e6, f16Lora: 1e5 },
    quality: { gainKept: 0.9, agreement: 0.95, kl: 0.01, windows: 24 },
  }),
  'unknown fields': { ...registry({ ...entry, colour: 'red' }), more: 1 },
  markup: registry({ ...entry, label: '<script>alert(1)</script>' }),
}

const bad: Record<string, [unknown, string]> = {
  'a list': [[], 'the whole'],
  'another version': [{ ...registry(), version: 2 }, 'version'],
  'no version': [{ experts: [] }, 'version'],
  'a short hash': [registry({ ...entry, rootHash: 'abc' }), 'experts/0/rootHash'],
  'upper-case hash': [registry({ ...entry, rootHash: 'A'.repeat(64) }), 'experts/0/rootHash'],
  'no url': [registry(entry, { ...entry, id: 'b', url: undefined }), 'experts/1'],
  'negative size': [registry({ ...entry, bytes: -1 }), 'experts/0/bytes'],
  'half a byte': [registry({ ...entry, bytes: 1.5 }), 'experts/0/bytes'],
  'a number as label': [registry({ ...entry, label: 5 }), 'experts/0/label'],
  'density over 1': [registry({ ...entry, density: 5 }), 'experts/0/density'],
  'no windows': [
    registry({ ...entry, quality: { gainKept: 1, agreement: 1, kl: 0, windows: 0 } }),
    'experts/0/quality/windows',
  ],
  'a negative temperature': [
    registry({ ...entry, generation: { temperature: -1 } }),
    'experts/0/generation/temperature',
  ],
  'an empty stop': [registry({ ...entry, generation: { stop: '' } }), 'experts/0/generation/stop'],
  'a path as id': [registry({ ...entry, id: '../x' }), 'experts/0/id'],
}

describe('parseRegistry', () => {
  test.each(Object.keys(good))('takes %s', (name) => {
    expect(parseRegistry(JSON.stringify(good[name]))).toEqual(JSON.parse(JSON.stringify(good[name])))
  })

  test.each(Object.keys(bad))('refuses %s, and names the place', (name) => {
    const [value, field] = bad[name]
    expect(() => parseRegistry(JSON.stringify(value), 'x.json')).toThrowError(
      expect.objectContaining({ tag: 'format', message: expect.stringContaining(field) }),
    )
  })

  test('refuses what is not JSON, and two experts of one id', () => {
    expect(() => parseRegistry('<html>')).toThrowError(expect.objectContaining({ tag: 'format' }))
    expect(() => parseRegistry(JSON.stringify(registry(entry, entry)))).toThrowError(
      /two experts have the id austen/,
    )
  })

  test('another validator reads the schema the same way', () => {
    const validate = new Ajv({ strict: true, strictRequired: false }).compile(schema)
    for (const [name, value] of Object.entries(good))
      expect(validate(JSON.parse(JSON.stringify(value))), name).toBe(true)
    for (const [name, [value]] of Object.entries(bad))
      expect(validate(JSON.parse(JSON.stringify(value))), name).toBe(false)
  })
})

describe('readRegistry', () => {
  let server: FaultServer
  beforeAll(async () => {
    server = await startFaultServer()
  })
  afterAll(() => server.close())
  const serve = (value: unknown) => {
    server.files.set('/x/experts.json', { bytes: new TextEncoder().encode(JSON.stringify(value)) })
    return `${server.url}/x/experts.json`
  }

  test('makes addresses absolute', async () => {
    const url = serve(
      registry(
        { ...entry, text: '../t.txt' },
        { ...entry, id: 'b', url: 'hf:o/r/b.trit@main' },
        { ...entry, id: 'c', url: 'https://elsewhere.example/c.trit' },
      ),
    )
    const { experts } = await readRegistry(url)
    expect(experts.map((expert) => expert.url)).toEqual([
      `${server.url}/x/austen.trit`,
      'hf:o/r/b.trit@main',
      'https://elsewhere.example/c.trit',
    ])
    expect(experts[0].text).toBe(`${server.url}/t.txt`)
  })

  test('refuses addresses that are no downloads', async () => {
    for (const url of ['javascript:alert(1)', 'data:,x', 'file:///etc/passwd', 'http://[']) {
      await expect(readRegistry(serve(registry({ ...entry, url })))).rejects.toMatchObject({ tag: 'format' })
    }
  })

  test('names the address of one that is not there', async () => {
    const url = `${server.url}/none.json`
    await expect(readRegistry(url)).rejects.toMatchObject({ tag: 'network', fields: { url, status: 404 } })
  })
})
