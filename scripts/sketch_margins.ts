/**
 * How far the weights in a model's graphs are from its checkpoint, and from others of the same shapes, by the comparison
 * that decides whether an expert is for a base: the table of docs/SKETCHES.md.
 *
 *     node scripts/run_ts.mjs scripts/sketch_margins.ts <folder>…
 *
 * A folder holds config.json, model.safetensors and graphs; fine-tunings lie in `finetuned` in it or beside it.
 */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { openFile } from '../src/cli/file_source.ts'
import { prepareModel } from '../src/cli/prepare_model.ts'
import { openCheckpoint } from '../src/compress/checkpoint.ts'
import { readFloats } from '../src/compress/safetensors.ts'
import { compareBase, fromHalf, readHead, SKETCH_VALUES, sketchOf, targetsOf } from '../src/format/index.ts'
import { type BaseIdentity, dtypesOf } from '../src/model/base_check.ts'
import { precisionNamed, precisionOf, quantizedDtypes } from '../src/model/weight_precision.ts'
import { integersOf, OnnxGraph } from '../src/onnx/index.ts'

const DTYPES = ['fp32', 'fp16', 'q8', 'q4', 'q4f16'] as const
const MOVES = [0.01, 0.05, 0.2]

/** A checkpoint's tensors, all of them read. */
type Values = ReadonlyMap<string, { shape: readonly number[]; values: Float32Array }>

async function valuesOf(folder: string): Promise<Values> {
  const source = await openFile(join(folder, 'model.safetensors'))
  try {
    const { tensors } = await openCheckpoint(source)
    const values = new Map<string, { shape: readonly number[]; values: Float32Array }>()
    for (const [name, tensor] of tensors)
      if (/^B?F\d/.test(tensor.dtype))
        values.set(name, { shape: tensor.shape, values: await readFloats(tensor) })
    return values
  } finally {
    await source.close()
  }
}

/** What a page knows of the base once it is loaded. */
async function identityOf(folder: string, dtype: (typeof DTYPES)[number]): Promise<BaseIdentity> {
  const out = await mkdtemp(join(tmpdir(), 'margins-'))
  try {
    const { manifest } = await prepareModel(folder, out, { dtype, storage: 'auto' })
    const source = await openFile(join(out, manifest.weights.file))
    const { table } = await readHead(source)
    await source.close()
    const own = new Map(table.tensors.map((tensor) => [tensor.target, tensor.shape]))
    const sketches = new Map<string, ArrayLike<number>>(
      targetsOf(table.tensors).map((name, i) => [
        name,
        Array.from(table.base.sketch!.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES), fromHalf),
      ]),
    )
    const dtypes = quantizedDtypes(table.tensors)
    for (const file of manifest.graphs) {
      for (const { parts } of integersOf(new OnnxGraph(file, await readFile(join(out, file))))) {
        for (const { target, shape, sketch } of parts) {
          if (own.has(target)) continue
          own.set(target, shape)
          sketches.set(target, sketch)
          dtypes.set(target, 'q8')
        }
      }
    }
    const coarsest = precisionOf(table) ?? precisionNamed(dtype) ?? (dtype === 'fp16' ? 'f16' : 'f32')
    return { name: folder, dtype: coarsest, dtypes, shapes: own, sketches }
  } finally {
    await rm(out, { recursive: true, force: true })
  }
}

function compared(base: BaseIdentity, values: Values) {
  const tensors = [...base.sketches].flatMap(([name, found]) => {
    const own = values.get(name)
    return own === undefined
      ? []
      : [{ name, expected: sketchOf(name, own.values), found, ...dtypesOf(name, base) }]
  })
  return compareBase(tensors)
}

/** A checkpoint whose matrices moved by a part of their spread, or that has others of the same spread. */
function moved(values: Values, part: number): Values {
  return new Map(
    [...values].map(([name, { shape, values }]) => {
      if (shape.length < 2) return [name, { shape, values }]
      const spread = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length)
      const noise = () =>
        spread * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())
      const other = values.map((value) => (part === Infinity ? noise() : value + part * noise()))
      return [name, { shape, values: other }]
    }),
  )
}

const cell = ({ verdict, distance, tolerance }: ReturnType<typeof compared>) =>
  `${verdict} ${distance.toPrecision(2)} / ${tolerance.toPrecision(2)}`

const columns = ['own', ...MOVES.map((part) => `moved ${100 * part} %`), 'fine-tuned', 'stranger']
console.log(`| model | dtype | ${columns.join(' | ')} |\n|${' --- |'.repeat(columns.length + 2)}`)
for (const folder of process.argv.slice(2).filter((path) => existsSync(join(path, 'config.json')))) {
  const name = basename(folder) === 'base' ? basename(dirname(folder)) : basename(folder)
  const own = await valuesOf(folder)
  const others = [join(folder, 'finetuned'), join(dirname(folder), 'finetuned')].filter((path) =>
    existsSync(path),
  )
  const tuned = others.slice(0, 1)
  const nested = tuned[0] && !existsSync(join(tuned[0], 'model.safetensors'))
  const finetuned = nested ? (await readdir(tuned[0])).map((each) => join(tuned[0], each)) : tuned
  for (const dtype of DTYPES) {
    try {
      const base = await identityOf(folder, dtype)
      const cells = [cell(compared(base, own))]
      for (const part of MOVES) cells.push(cell(compared(base, moved(own, part))))
      const nearest = []
      for (const path of finetuned) nearest.push(compared(base, await valuesOf(path)))
      nearest.sort((a, b) => a.distance / a.tolerance - b.distance / b.tolerance)
      cells.push(nearest.length === 0 ? '' : cell(nearest[0]))
      cells.push(cell(compared(base, moved(own, Infinity))))
      console.log(`| ${name} | ${dtype} | ${cells.join(' | ')} |`)
    } catch (error) {
      console.error(`${name} ${dtype}: ${(error as Error).message}`)
    }
  }
}
