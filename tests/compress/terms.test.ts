import { describe, expect, test } from 'vitest'
import { defaultTerms } from '../../src/compress/defaults.ts'
import { compressAdapter, compressCheckpoint, type RuleOptions } from '../../src/compress/index.ts'
import { peftFolder } from '../../src/compress/peft_folder.ts'
import { decompose, decomposeMatrix, transpose } from '../../src/compress/semidiscrete.ts'
import { verifyFile } from '../../src/compress/verify.ts'
import { contributionsOf } from '../../src/format/contributions.ts'
import { readHead } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { heavyTailed, memoryFolder, opened, safetensors, type Values } from './checkpoints.ts'

const RANK = 4
const PREFIX = 'base_model.model.'
const CONFIG = { peft_type: 'LORA', r: RANK, lora_alpha: 8, target_modules: ['q'] }

/** Factors of a module, and the change that they make. */
function lora(path: string, a: readonly number[], b: readonly number[], seed: number, isEmbedding = false) {
  const size = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1)
  const [valuesA, valuesB] = [heavyTailed(size(a), seed, 1), heavyTailed(size(b), seed + 1, 1)]
  const name = (factor: string) =>
    `${PREFIX}${path}.${isEmbedding ? `lora_embedding_${factor}` : `lora_${factor}.weight`}`
  const tensors: Record<string, Values> = {
    [name('A')]: { shape: a, values: valuesA },
    [name('B')]: { shape: b, values: valuesB },
  }
  return { tensors, product: productOf(valuesA, valuesB, a[0]) }
}

/** B · A, row-major. */
function productOf(a: ArrayLike<number>, b: ArrayLike<number>, rank: number): Float64Array {
  const [rows, cols] = [b.length / rank, a.length / rank]
  return Float64Array.from({ length: rows * cols }, (_, i) => {
    let sum = 0
    for (let k = 0; k < rank; k++) sum += b[Math.floor(i / cols) * rank + k] * a[k * cols + (i % cols)]
    return sum
  })
}

function transposed(values: Float64Array, rows: number): Float64Array {
  const cols = values.length / rows
  return Float64Array.from(values, (_, i) => values[(i % rows) * cols + Math.floor(i / rows)])
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((sum, value, i) => sum + value * b[i], 0)
const cosine = (a: ArrayLike<number>, b: ArrayLike<number>) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))

async function made(tensors: Record<string, Values>, options: RuleOptions = {}, config: object = {}) {
  const adapter = memoryFolder({
    'adapter_config.json': { ...CONFIG, ...config },
    'adapter_model.safetensors': safetensors(tensors),
  })
  const { file, ...report } = await compressAdapter({ adapter, options })
  return { file, ...report, ...(await opened(file)) }
}

const linear = lora('layers.0.q', [RANK, 30], [40, RANK], 1)

describe('decomposition', () => {
  const random = (length: number, seed: number) => Float64Array.from(heavyTailed(length, seed, 1))
  const product = { rows: 23, cols: 31, rank: 6, left: random(23 * 6, 3), right: random(6 * 31, 4) }

  test('a matrix of ternary terms comes back as it is', () => {
    const left = Float64Array.from([1, 0, -1, 1, 0, 0, -1], (x) => x * 0.25)
    const right = Float64Array.of(0, 1, 1, -1)
    const { x, y, steps } = decompose({ rows: 7, cols: 4, rank: 1, left, right }, 4)
    expect(steps).toHaveLength(1)
    expect(steps[0].energy).toBeCloseTo(1, 6)
    const sign = x[0]
    expect([...x]).toEqual([1, 0, -1, 1, 0, 0, -1].map((entry) => entry * sign))
    expect([...y]).toEqual([0, 1, 1, -1].map((entry) => entry * sign))
    expect(steps[0].scales[0]).toBeCloseTo(0.25, 6)
  })

  test('every term adds energy, and the first ones do not depend on how many there are', () => {
    const { steps, x } = decompose(product, 8)
    expect(steps).toHaveLength(8)
    for (const [i, { energy }] of steps.entries()) expect(energy).toBeGreaterThan(steps[i - 1]?.energy ?? 0.2)
    expect(steps[7].energy).toBeLessThan(1)
    const few = decompose(product, 3)
    expect(few.x).toEqual(x.subarray(0, 3 * 23))
    expect(few.steps).toEqual(steps.slice(0, 3))
  })

  test('the transposed matrix has as much of its energy', () => {
    const [own, other] = [decompose(product, 2), decompose(transpose(product), 2)]
    expect(other.squares).toBeCloseTo(own.squares, 9)
    expect(other.steps[1].energy).toBeGreaterThan(0.9 * own.steps[1].energy)
  })

  test('zeros have no terms', () => {
    expect(decompose({ ...product, left: new Float64Array(23 * 6) }, 2).steps).toEqual([])
  })
})

describe('LoRA', () => {
  test.each([
    ['linear', {}, 8 / RANK],
    ['rsLoRA', { use_rslora: true }, 8 / Math.sqrt(RANK)],
    ['alpha_pattern', { alpha_pattern: { q: 3 } }, 3 / RANK],
  ] as const)('%s becomes terms with the projection 1 on what it changes', async (_, config, scaling) => {
    const { parsed, decoded, source } = await made(linear.tensors, {}, config)
    const [tensor] = parsed.table.tensors
    expect(parsed.table.tensors).toHaveLength(1)
    expect(tensor).toMatchObject({ name: 'layers.0.q.weight', codec: 'terms', terms: 2, shape: [40, 30] })
    const values = decoded.get(tensor.name)!
    const wanted = linear.product.map((value) => scaling * value)
    expect(cosine(values, wanted)).toBeGreaterThan(0.7)
    expect(dot(values, wanted) / dot(wanted, wanted)).toBeCloseTo(1, 5)
    await verifyFile(source, parsed)
  })

  test.each([
    ['a convolution', lora('conv', [RANK, 3, 2, 2], [10, RANK, 1, 1], 5), {}, 'conv2d', [10, 3, 2, 2], false],
    ['Conv1D', lora('c_attn', [RANK, 12], [20, RANK], 6), { fan_in_fan_out: true }, 'conv1d', [12, 20], true],
    ['an embedding', lora('wte', [RANK, 50], [8, RANK], 7, true), {}, 'embedding', [50, 8], true],
  ] as const)('%s keeps its layout', async (_, { tensors, product }, config, layout, shape, flip) => {
    const { parsed, decoded } = await made({ ...tensors }, { terms: 3 }, config)
    const [tensor] = parsed.table.tensors
    expect(tensor).toMatchObject({ layout, shape, terms: 3 })
    const own = flip ? transposed(product, shape[1]) : product
    expect(cosine(decoded.get(tensor.name)!, own)).toBeGreaterThan(0.75)
    const [contribution] = contributionsOf(parsed.table.tensors)
    expect(contribution).toMatchObject({ kind: 'terms', ofEmbedding: layout === 'embedding' })
  })

  test('terms fill a size: the energy for each byte decides', async () => {
    const modules = Array.from({ length: 12 }, (_, i) =>
      lora(`layers.${i}.q`, [RANK, 300 + 40 * (i % 3)], [200, RANK], 20 + 2 * i),
    )
    const tensors = Object.assign({}, ...modules.map((module) => module.tensors))
    const sizes = await Promise.all(
      [1500, 2500, 4000].map(async (limit) => ({ limit, ...(await made(tensors, { bytes: limit })) })),
    )
    for (const { limit, file, parsed } of sizes) {
      expect(file.length).toBeLessThanOrEqual(limit)
      expect(file.length).toBeGreaterThan(0.85 * limit)
      expect(parsed.table.tensors.length).toBeLessThanOrEqual(12)
    }
    await expect(made(tensors, { bytes: 300 })).rejects.toMatchObject({ tag: 'input' })
  })

  test('factors that are zero are left out, and a file of nothing is refused', async () => {
    const zero = lora('layers.1.q', [RANK, 30], [40, RANK], 9)
    const b = `${PREFIX}layers.1.q.lora_B.weight`
    zero.tensors[b] = { shape: [40, RANK], values: new Float32Array(40 * RANK) }
    const { unmoved, parsed } = await made({ ...linear.tensors, ...zero.tensors })
    expect(parsed.table.tensors).toHaveLength(1)
    expect(unmoved).toHaveLength(2)
    await expect(made(zero.tensors)).rejects.toMatchObject({ tag: 'input' })
  })

  test('values that are not finite are refused by name', async () => {
    const a = `${PREFIX}layers.0.q.lora_A.weight`
    const values = heavyTailed(RANK * 30, 1)
    values[7] = Number.NaN
    await expect(made({ ...linear.tensors, [a]: { shape: [RANK, 30], values } })).rejects.toMatchObject({
      tag: 'input',
      message: /lora_A.*index 7/,
    })
  })

  test('options of ternary entries ask for ternary factors, and both together are refused', async () => {
    for (const options of [{ density: 0.5 }, { codec: 'ternary' }, { rule: 'published' }] as const)
      expect((await made(linear.tensors, options)).parsed.table.tensors.map(({ role }) => role)).toEqual([
        'loraA',
        'loraB',
      ])
    await expect(made(linear.tensors, { codec: 'ternary', terms: 2 })).rejects.toMatchObject({ tag: 'input' })
    await expect(made(linear.tensors, { terms: 2, bytes: 9000 })).rejects.toMatchObject({ tag: 'input' })
    await expect(made(linear.tensors, { terms: 0 })).rejects.toMatchObject({ tag: 'input' })
  })

  test('half a pair that is to be dense or left out is refused', async () => {
    await expect(made(linear.tensors, { dense: ['*lora_A*'] })).rejects.toMatchObject({
      message: /same rule/,
    })
    const { parsed } = await made(linear.tensors, { dense: ['*'] })
    expect(parsed.table.tensors.map(({ codec }) => codec)).toEqual(['dense', 'dense'])
  })
})

describe('a full fine-tuning', () => {
  const [rows, cols] = [40, 30]
  const base = { 'a.weight': { shape: [rows, cols], values: heavyTailed(rows * cols, 70, 1) } }
  const change = heavyTailed(rows * cols, 71, 0.1)
  const norm = { shape: [64], values: heavyTailed(64, 72, 1) }
  const weights = base['a.weight'].values.map((value, i) => value + change[i])
  const tuned = {
    'a.weight': { shape: [rows, cols], values: weights },
    norm: { ...norm, values: norm.values.map((value) => value + 1) },
  }

  async function madeOf(options: RuleOptions) {
    const [from, to] = [{ ...base, norm }, tuned].map((tensors) =>
      memorySource(safetensors(tensors), 'weights'),
    )
    const { file } = await compressCheckpoint({ base: from, finetuned: to, options })
    return { file, ...(await opened(file)) }
  }

  test('has terms of its matrices where asked for, the more the closer, and its vectors as ever', async () => {
    let closest = 0
    for (const terms of [4, 16]) {
      const { parsed, decoded, source } = await madeOf({ codec: 'terms', terms })
      expect(parsed.table.tensors).toMatchObject([
        { name: 'norm', codec: 'ternary' },
        { name: 'a.weight', codec: 'terms', terms, role: 'delta' },
      ])
      const values = decoded.get('a.weight')!
      expect(dot(values, change) / dot(change, change)).toBeCloseTo(1, 4)
      expect(cosine(values, change)).toBeGreaterThan(closest + 0.1)
      closest = cosine(values, change)
      await verifyFile(source, parsed)
    }
  })

  test('has 16 terms unless a number or a size is given', async () => {
    expect((await madeOf({ codec: 'terms' })).parsed.table.tensors[1]).toMatchObject({ terms: 16 })
    const { file, parsed } = await madeOf({ bytes: 700 })
    expect(file.length).toBeLessThanOrEqual(700)
    expect(parsed.table.tensors[1]).toMatchObject({ codec: 'terms' })
    expect((await madeOf({})).parsed.table.tensors.map(({ codec }) => codec)).toEqual(['ternary', 'ternary'])
  })

  test('of a product has the terms that the product has', () => {
    const [left, right] = [heavyTailed(rows * 2, 73, 1), heavyTailed(2 * cols, 74, 1)]
    const product = { rows, cols, rank: 2, left: Float64Array.from(left), right: Float64Array.from(right) }
    const values = Float32Array.from({ length: rows * cols }, (_, i) => {
      const [row, col] = [Math.floor(i / cols), i % cols]
      return left[2 * row] * right[col] + left[2 * row + 1] * right[cols + col]
    })
    const [own, other] = [decomposeMatrix({ rows, cols, values }, 3), decompose(product, 3)]
    expect(own.squares).toBeCloseTo(other.squares, 2)
    for (const [t, step] of own.steps.entries()) expect(step.energy).toBeCloseTo(other.steps[t].energy, 2)
  })
})

describe('a folder for peft', () => {
  test.each([
    ['terms', {}, linear, {}],
    ['ternary factors', { density: 0.5 }, linear, {}],
    ['Conv1D', {}, lora('c_attn', [RANK, 12], [20, RANK], 6), { fan_in_fan_out: true }],
    ['an embedding', {}, lora('wte', [RANK, 50], [8, RANK], 7, true), {}],
    ['a convolution', {}, lora('conv', [RANK, 3, 2, 2], [10, RANK, 1, 1], 5), {}],
  ] as const)('of %s has the change that the file has', async (name, options, { tensors }, config) => {
    const { source, parsed, decoded } = await made({ ...tensors }, options, config)
    const { config: written, tensors: files } = peftFolder(source, parsed)
    expect(written).toMatchObject({ peft_type: 'LORA', lora_alpha: written.r })
    const own = files.map(({ name }) => name)
    expect(own.sort()).toEqual(Object.keys(tensors).sort())
    const values = async (factor: string) => files.find((file) => file.name.includes(factor))!.values()
    const change = productOf(await values('_A'), await values('_B'), written.r as number)
    const [tensor] = parsed.table.tensors
    if (name === 'ternary factors') {
      const [a, b] = parsed.table.tensors
      const wanted = productOf(decoded.get(a.name)!, decoded.get(b.name)!, RANK)
      for (const [i, value] of wanted.entries()) expect(change[i]).toBeCloseTo(2 * value, 6)
      return
    }
    const flip = tensor.layout === 'conv1d' || tensor.layout === 'embedding'
    const wanted = Float64Array.from(decoded.get(tensor.name)!)
    const seen = flip ? transposed(change, tensor.shape[1]) : change
    for (const [i, value] of wanted.entries()) expect(seen[i]).toBeCloseTo(value, 6)
  })

  test('the factors of fewer terms are padded to the rank of the others', async () => {
    const other = lora('layers.1.q', [RANK, 300], [200, RANK], 11)
    const { source, parsed } = await made({ ...linear.tensors, ...other.tensors }, { bytes: 1100 })
    const counts = parsed.table.tensors.map((tensor) => (tensor.codec === 'terms' ? tensor.terms : 0))
    const { config, tensors } = peftFolder(source, parsed)
    expect(config.r).toBe(Math.max(...counts))
    for (const { shape, values } of tensors)
      expect((await values()).length).toBe(shape.reduce((product, size) => product * size, 1))
  })

  test('what is not of low rank is refused', async () => {
    const { file } = await made({ ...linear.tensors }, { dense: ['*'] })
    const head = await readHead(memorySource(file))
    head.table.tensors[0] = { ...head.table.tensors[0], role: 'delta' }
    head.table.tensors.pop()
    expect(() => peftFolder(memorySource(file), head)).toThrow(
      expect.objectContaining({ tag: 'unsupported' }),
    )
  })
})

describe('how many terms by default', () => {
  /** Factors of modules [out, in] of a LoRA, in each of so many layers. */
  const factors = (rank: number, layers: number, modules: readonly (readonly [number, number])[]) =>
    Array.from({ length: layers }, () =>
      modules.flatMap(([out, input]) => [
        { role: 'loraA' as const, shape: [rank, input] },
        { role: 'loraB' as const, shape: [out, rank] },
      ]),
    ).flat()
  const queryAndValue = [
    [576, 576],
    [192, 576],
  ] as const
  const all = [...queryAndValue, [192, 576], [576, 576], [1536, 576], [1536, 576], [576, 1536]] as const

  test.each([
    ['rank 8 on all linears', factors(8, 30, all), 2],
    ['rank 2', factors(2, 30, all), 2],
    ['rank 16 on query and value', factors(16, 30, queryAndValue), 8],
    ['rank 64 on query and value, as many as 128 kB hold', factors(64, 30, queryAndValue), 10],
    ['rank 64 on all linears, which leave room for no more', factors(64, 30, all), 2],
  ])('%s', (_, tensors, expected) => {
    expect(defaultTerms(tensors, 'lora')).toBe(expected)
  })

  test('a file has as many, and the number that is asked for before that', async () => {
    const { tensors } = lora('layers.0.q', [12, 30], [40, 12], 9)
    const termsOf = async (options: RuleOptions) =>
      (await made(tensors, options, { r: 12 })).tensors.map(({ terms }) => terms)
    expect(await termsOf({})).toEqual([6])
    expect(await termsOf({ terms: 1 })).toEqual([1])
  })
})
