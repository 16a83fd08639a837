import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compareExperts } from '../../src/compress/compare.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { decodeSteps } from '../../src/compress/decode.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import { inspectHead } from '../../src/compress/inspect.ts'
import { mergeExperts } from '../../src/compress/merge.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { readFloats } from '../../src/compress/safetensors.ts'
import { verifyFile } from '../../src/compress/verify.ts'
import { memorySpool, readHead, weightsOf } from '../../src/format/index.ts'
import { bitsFromUnit, type StepUnit, unitFromBits } from '../../src/format/steps.ts'
import { mergedTensors, readExpert } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { randomFrom } from '../format/samples.ts'
import { ZOO } from '../onnx/graphs.ts'
import { safetensors, type Values } from './checkpoints.ts'

const FIXTURES = join(import.meta.dirname, '../fixtures/kinds')
const UNITS = { F32: 'f32', F16: 'f16', BF16: 'bf16' } as const satisfies Record<string, StepUnit>
type Stored = keyof typeof UNITS

const SHAPES = { 'a.weight': [70, 90], 'b.bias': [333], 'c.weight': [4, 3, 3, 3], 'same.weight': [8, 8] }

/** Values of some dtypes, small and large ones, and both zeros. */
function valuesIn(dtypes: readonly Stored[], count: number, seed: number): Float32Array<ArrayBuffer> {
  const random = randomFrom(seed)
  const floats = Float32Array.from(
    { length: count },
    (_, i) => [0, -0][i % 50] ?? (random() - 0.5) * 10 ** -(random() * 7),
  )
  const bits = new Uint32Array(floats.buffer)
  for (const dtype of dtypes) {
    const unit = UNITS[dtype]
    for (const [i, own] of bits.entries()) bits[i] = bitsFromUnit(unitFromBits(own, unit), unit)
  }
  return floats
}

/** A base and a fine-tuning that changed one weight in ten: most by little, some to anything. */
function checkpoints(baseDtype: Stored, tunedDtype: Stored) {
  const base: Record<string, Values> = {}
  const tuned: Record<string, Values> = {}
  for (const [i, [name, shape]] of Object.entries(SHAPES).entries()) {
    const count = weightsOf(shape)
    const own = valuesIn(baseDtype === 'F32' ? [tunedDtype] : [tunedDtype, baseDtype], count, i + 1)
    const other = valuesIn([tunedDtype], count, i + 100)
    const random = randomFrom(i + 200)
    const near = own.map((value) => value * (1 + 2 ** -7))
    const bits = new Uint32Array(near.buffer)
    for (const [n, pattern] of bits.entries())
      bits[n] = bitsFromUnit(unitFromBits(pattern, UNITS[tunedDtype]), UNITS[tunedDtype])
    const values = own.map((value, n) => {
      if (name.startsWith('same') || random() > 0.1) return value
      return random() < 0.8 ? near[n] : other[n]
    })
    base[name] = { shape, values: own, dtype: baseDtype }
    tuned[name] = { shape, values, dtype: tunedDtype }
  }
  return { base, tuned }
}

async function losslessOf(
  base: Record<string, Values>,
  tuned: Record<string, Values> | Uint8Array<ArrayBuffer>,
  rules: RuleOptions = {},
) {
  const from = await openCheckpoint(memorySource(safetensors(base), 'base.safetensors'))
  const file = tuned instanceof Uint8Array ? tuned : safetensors(tuned)
  const to = await openCheckpoint(memorySource(file, 'tuned.safetensors'))
  const spool = memorySpool()
  const report = await compressTaskVector(
    await fullTaskVector(from, to),
    { ...rules, lossless: true },
    { spool },
  )
  const source = memorySource(spool.join(report.head), 'lossless.trit')
  return { report, source, head: await readHead(source) }
}

/** The base with an expert on it, by the CPU reference. */
async function mergedWith(base: Record<string, Values>, source: ReturnType<typeof memorySource>, weight = 1) {
  const tensors = new Map(Object.entries(base).map(([name, { values }]) => [name, Float32Array.from(values)]))
  const shapeOf = (name: string) => base[name].shape
  const merged = mergedTensors({ tensors, shapeOf }, [{ expert: await readExpert(source), weight }])
  return new Map([...tensors, ...merged])
}

const bitsOf = (values: ArrayLike<number>) => new Uint32Array(Float32Array.from(values).buffer)

describe('lossless', () => {
  test.each([
    ['BF16', 'BF16', 'bf16'],
    ['F16', 'F16', 'f16'],
    ['F32', 'F32', 'f32'],
    ['F32', 'BF16', 'f32'],
    ['BF16', 'F16', 'f32'],
  ] as const)(
    'over a base in %s a fine-tuning in %s comes out bit for bit, in %s',
    async (from, to, unit) => {
      const { base, tuned } = checkpoints(from, to)
      const { source, head, report } = await losslessOf(base, tuned)
      await verifyFile(source, head)
      expect(report.unmoved).toEqual(['same.weight'])
      expect(new Set(inspectHead(head, 'x').tensors.map((tensor) => tensor.unit))).toEqual(new Set([unit]))
      const merged = await mergedWith(base, source)
      for (const [name, { values }] of Object.entries(tuned))
        expect(bitsOf(merged.get(name)!)).toEqual(bitsOf(values))
    },
  )

  test('the file says of how many weights it is not exact over a base in f16', async () => {
    // 2^-20 is subnormal in binary16, where its neighbour in bf16 is none; 1 and its neighbour are in both.
    const base = { w: { shape: [3], values: [2 ** -20, 1, 0.5], dtype: 'BF16' as const } }
    const tuned = {
      w: { shape: [3], values: [2 ** -20 * 1.0078125, 1.0078125, 0.5], dtype: 'BF16' as const },
    }
    // The base rounds to itself there, and the new weight back to it.
    expect((await losslessOf(base, tuned)).head.table.tensors[0]).toMatchObject({ kept: 2, roundedInF16: 0 })
    const small = { w: { shape: [2], values: [2 ** -24 * 1.4921875, 1], dtype: 'BF16' as const } }
    const larger = { w: { shape: [2], values: [2 ** -24 * 1.5078125, 1], dtype: 'BF16' as const } }
    const { head, report } = await losslessOf(small, larger)
    expect(head.table.tensors[0]).toMatchObject({ kept: 1, roundedInF16: 1 })
    expect(report.notes.at(-1)).toMatch(
      /bit for bit \(bf16\); over a base in f16 1 changed weight is a rounding off/,
    )
  })

  test('a share of the expert goes a share of the way', async () => {
    const base = { w: { shape: [2], values: [1, 2] } }
    const { source } = await losslessOf(base, { w: { shape: [2], values: [1.5, 2] } })
    expect([...(await mergedWith(base, source, 0.5)).get('w')!]).toEqual([1.25, 2])
    expect([...(await mergedWith(base, source, -1)).get('w')!]).toEqual([0.5, 2])
  })

  test('steps come out by index', async () => {
    const { base, tuned } = checkpoints('BF16', 'BF16')
    const { source, head } = await losslessOf(base, tuned)
    const { indices, steps } = await decodeSteps(source, head, head.table.tensors[0])
    const changed = [...bitsOf(tuned['a.weight'].values)].flatMap((bits, i) =>
      bits === bitsOf(base['a.weight'].values)[i] ? [] : [i],
    )
    expect([...indices]).toEqual(changed)
    expect(steps).not.toContain(0)
  })
})

describe('what cannot be lossless', () => {
  const base = { w: { shape: [2], values: [1, 2] } }
  const tuned = { w: { shape: [2], values: [1.5, 2] } }

  test.each([
    ['options that choose', { density: 0.1 }, tuned, /density chooses what is left out/],
    ['infinities', {}, { w: { shape: [2], values: [Infinity, 2] } }, /w: .*Infinity at index 0/],
    ['nothing that moved', {}, base, /no weight differs/],
  ] as [string, RuleOptions, Record<string, Values>, RegExp][])('%s', async (_, rules, to, message) => {
    await expect(losslessOf(base, to, rules)).rejects.toMatchObject({ tag: 'input', message })
  })

  test('is not merged with others, nor compared: steps do not add up', async () => {
    const one = await losslessOf(base, tuned)
    const context = { spool: memorySpool() }
    const message = /w is lossless.*do not add up.*without --lossless/
    await expect(mergeExperts([one, one], { method: 'average' }, context)).rejects.toMatchObject({
      tag: 'unsupported',
      message,
    })
    await expect(compareExperts([one, one])).rejects.toMatchObject({ tag: 'unsupported', message })
    const expert = await readExpert(one.source)
    const tensors = new Map([['w', Float32Array.of(1, 2)]])
    const both = [expert, expert].map((own) => ({ expert: own, weight: 1 }))
    expect(() => mergedTensors({ tensors, shapeOf: () => [2] }, both)).toThrow(/2 lossless experts on w/)
  })

  test.each([
    ['lora', /changes every weight of its module; leave out --lossless/],
    ['dora', /changes every weight of its module/],
  ])('%s adapters', async (name, message) => {
    const file = await openFile(join(ZOO, 'llama-tiny', 'model.safetensors'))
    const own = await openCheckpoint(file)
    const folder =
      name === 'lora' ? join(ZOO, 'llama-tiny', 'adapters', 'lora') : join(FIXTURES, 'llama-tiny', name)
    const task = await adapterTaskVector(openFolder(folder), own)
    const compress = compressTaskVector(task, { lossless: true }, { spool: memorySpool() })
    await expect(compress).rejects.toMatchObject({ tag: 'unsupported', message })
    await file.close()
  })
})

test('SHiRA is merged as peft merges it, in f32, without loss', async () => {
  const file = await openFile(join(ZOO, 'llama-tiny', 'model.safetensors'))
  const base = await openCheckpoint(file)
  const task = await adapterTaskVector(openFolder(join(FIXTURES, 'llama-tiny', 'shira')), base)
  const spool = memorySpool()
  const { head } = await compressTaskVector(task, { lossless: true }, { spool })
  const expert = await readExpert(memorySource(spool.join(head)))
  for (const { target, theta } of task.tensors) {
    const own = await readFloats(base.tensors.get(target)!)
    const delta = await readFloats(theta)
    const wanted = own.map((value, i) => value + delta[i])
    const tensors = new Map([[target, own]])
    const only = new Set([expert.table.tensors.findIndex((tensor) => tensor.target === target)])
    const merged = mergedTensors({ tensors, shapeOf: () => theta.shape }, [{ expert, weight: 1, only }])
    expect(bitsOf(merged.get(target)!)).toEqual(bitsOf(wanted))
  }
  await file.close()
})

describe("TRL's patches", () => {
  const { base, tuned } = checkpoints('BF16', 'BF16')
  const META = { format: 'sparse_weight_patch', version: '1', sparse: 'True', encoding: 'gap_delta' }

  /** What `encode_patch` of TRL's delta_engine.py writes. */
  function patchOf(
    encoding: 'raw' | 'gap_delta',
    change: (name: string, places: number[]) => number[] = (_, all) => all,
  ) {
    const tensors: Record<string, Values> = {}
    for (const [name, { values }] of Object.entries(tuned)) {
      const [from, to] = [bitsOf(base[name].values), bitsOf(values)]
      const places = change(
        name,
        [...to.keys()].filter((i) => from[i] !== to[i]),
      )
      if (places.length === 0) continue
      const gaps = places.map((place, i) => place - (i === 0 ? 0 : places[i - 1] + 1))
      const stored = encoding === 'raw' ? places : gaps
      const dtype = encoding === 'raw' ? ('I32' as const) : ('U16' as const)
      tensors[`${name}.val`] = {
        shape: [places.length],
        values: places.map((i) => values[i] ?? 0),
        dtype: 'BF16',
      }
      tensors[`${name}.idx`] = { shape: [places.length], values: stored, dtype }
    }
    return safetensors(tensors, { ...META, encoding })
  }

  test.each(['raw', 'gap_delta'] as const)(
    'with indices as %s make what the fine-tuning makes',
    async (encoding) => {
      const { source } = await losslessOf(base, patchOf(encoding))
      const merged = await mergedWith(base, source)
      for (const [name, { values }] of Object.entries(tuned))
        expect(bitsOf(merged.get(name)!)).toEqual(bitsOf(values))
    },
  )

  test('over a base in f32 too, and ternary', async () => {
    const wide = Object.fromEntries(
      Object.entries(base).map(([name, own]) => [name, { ...own, dtype: 'F32' as const }]),
    )
    const { source } = await losslessOf(wide, patchOf('raw'))
    const merged = await mergedWith(base, source)
    for (const [name, { values }] of Object.entries(tuned))
      expect(bitsOf(merged.get(name)!)).toEqual(bitsOf(values))
    const from = await openCheckpoint(memorySource(safetensors(base), 'base'))
    const patch = await openCheckpoint(memorySource(patchOf('raw'), 'patch'))
    const report = await compressTaskVector(await fullTaskVector(from, patch), {}, { spool: memorySpool() })
    expect(report.tensors.map(({ name }) => name).sort()).toEqual(['a.weight', 'b.bias', 'c.weight'])
  })

  test.each([
    ['places behind the end', () => patchOf('raw', () => [6300]), 'input', /ascending places below/],
    ['places out of order', () => patchOf('raw', () => [3, 2]), 'input', /found 2 after 3/],
    [
      'other encodings',
      () => safetensors({}, { ...META, encoding: 'nvcomp_cascaded' }),
      'unsupported',
      /gap_delta/,
    ],
    [
      'parameters of another base',
      () =>
        safetensors(
          { 'x.val': { shape: [1], values: [1] }, 'x.idx': { shape: [1], values: [0], dtype: 'I32' } },
          { ...META, encoding: 'raw' },
        ),
      'input',
      /has no such tensor/,
    ],
    [
      'values without places',
      () => safetensors({ 'a.weight.val': { shape: [1], values: [1] } }, META),
      'input',
      /a.weight.val: expected <parameter>.idx/,
    ],
  ] as [string, () => Uint8Array<ArrayBuffer>, string, RegExp][])(
    '%s are refused',
    async (_, file, tag, message) => {
      await expect(losslessOf(base, file())).rejects.toMatchObject({ tag, message })
    },
  )
})
