/**
 * What a skill of SmolLM2 costs as it is switched on: as ternary terms, as a full fine-tuning of 5 %, and as a LoRA of ternary
 * factors, on weights of SmolLM2's shapes that came as 4-bit blocks.
 *
 * @module
 */
import { readFile } from 'node:fs/promises'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { parseHead, type TritHead, weightsOf } from '../../src/format/index.ts'
import type { Gpu, ResidentExpert, SetEntry } from '../../src/gpu/index.ts'
import {
  blocksOf,
  container,
  engineFor,
  type NewSection,
  placementOf,
  ternaryOf,
} from '../../tests/gpu/fixtures.ts'
import { Random, randomEntries } from '../../tests/gpu/random.ts'

export interface SkillsOptions {
  /** Layers of the base, of 30. */
  layers: number
  /** Layers that the LoRA changes; its time is scaled up to all. */
  loraLayers: number
  dtype: 'float32' | 'float16'
  rounds: number
}

/** Best times in ms, of all CPUs together where one plays GPU, and bytes of VRAM beside the weights. */
export interface SkillsReport {
  adapter: string
  weights: number
  ms: Record<string, number>
  bytes: Record<string, number>
}

const HIDDEN = 576
const SHAPES: Readonly<Record<string, readonly number[]>> = {
  'self_attn.q_proj': [HIDDEN, HIDDEN],
  'self_attn.k_proj': [192, HIDDEN],
  'self_attn.v_proj': [192, HIDDEN],
  'self_attn.o_proj': [HIDDEN, HIDDEN],
  'mlp.gate_proj': [1536, HIDDEN],
  'mlp.up_proj': [1536, HIDDEN],
  'mlp.down_proj': [HIDDEN, 1536],
}

export async function timeSkills(
  gpu: Gpu,
  { layers, loraLayers, dtype, rounds }: SkillsOptions,
): Promise<SkillsReport> {
  const random = new Random(20)
  const modules = Array.from({ length: layers }, (_, layer) =>
    Object.entries(SHAPES).map(([name, shape]) => ({
      name: `model.layers.${layer}.${name}.weight`,
      shape,
      layer,
    })),
  ).flat()
  const code = { bits: 4, blockSize: 32, dtype: 'f16', minimums: true } as const
  const base = await container(
    'base',
    modules.map(({ name, shape }) => blocksOf(name, shape, code, random)),
  )
  const inputs = modules.map(
    ({ name, shape }): HoistedInput => ({
      name,
      dtype,
      dims: [shape[1], shape[0]],
      parts: [placementOf(name, shape, 'transposed')],
    }),
  )
  const engine = await engineFor(base, inputs, 2 ** 28, gpu)
  const { switcher, weights } = engine
  const entryOf = (expert: ResidentExpert): SetEntry => {
    const { tensors } = expert.table
    const here = tensors.flatMap(({ target }, i) => (weights.knows(target) ? [i] : []))
    return { expert, weight: 1, only: new Set(here) }
  }
  const load = async (file: { head: TritHead; payload: Uint8Array<ArrayBuffer> }) =>
    entryOf(await engine.load({ ...file, file: file.payload }))
  const terms = await load(await bundled('sql'))
  const others = await load(await bundled('clinical'))
  const full = await load(await bundled('sql-full'))
  const changed = modules.filter(({ layer }) => layer < loraLayers)
  const lora = loraLayers === 0 ? undefined : await load(await container('expert', factors(changed, random)))

  const ms: Record<string, number> = {}
  const bytes: Record<string, number> = {}
  const change = async (name: string, set: SetEntry[], scale = 1) => {
    const from = process.cpuUsage()
    const { totalMs, gpuMs } = await switcher.measure(set)
    await gpu.device.queue.onSubmittedWorkDone()
    const { user, system } = process.cpuUsage(from)
    // A CPU that plays GPU does its work in this process: its own time does not depend on what else the machine does.
    const time = gpu.adapter.software ? (user + system) / 1000 : (gpuMs ?? totalMs)
    ms[name] = Math.min(ms[name] ?? Number.POSITIVE_INFINITY, time * scale)
    bytes[name] = switcher.journalBytes + switcher.copyBytes + weights.ownFormBytes
  }
  const before = await weights.checksum()
  for (let round = 0; round < rounds; round++) {
    await change('full, apply', [full])
    await change('full, revert', [])
    await change('terms, apply', [terms])
    await change('terms, A to B', [others])
    await change('terms, revert', [])
    if (lora !== undefined && round === 0) {
      await change('factors, apply', [lora], layers / loraLayers)
      await change('factors, revert', [], layers / loraLayers)
    }
  }
  if ((await weights.checksum()) !== before) throw new Error('the weights are not those of the base again')
  const { vendor, architecture, description } = gpu.adapter
  const count = modules.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
  engine.destroy()
  return { adapter: [vendor, architecture, description].join(' '), weights: count, ms, bytes }
}

/** A bundled skill. */
async function bundled(name: string): Promise<{ head: TritHead; payload: Uint8Array<ArrayBuffer> }> {
  const file = new URL(`../../public/experts/smollm2/${name}.trit`, import.meta.url)
  const bytes = Uint8Array.from(await readFile(file))
  const head = await parseHead(bytes, name)
  return { head, payload: bytes.slice(head.headBytes) }
}

/** A LoRA of rank 8 with a fifth of the entries of its factors, for all modules. */
function factors(
  modules: readonly { name: string; shape: readonly number[] }[],
  random: Random,
): NewSection[] {
  const rank = 8
  return modules.flatMap(({ name, shape: [outs, ins] }) => {
    const extra = { target: name, layout: 'linear' } as const
    const entries = (length: number) => randomEntries(length, 0.2, random)
    return [
      ternaryOf(`${name}.A`, [rank, ins], entries(rank * ins), 0.01, { ...extra, role: 'loraA' }),
      ternaryOf(`${name}.B`, [outs, rank], entries(outs * rank), 0.01, {
        ...extra,
        role: 'loraB',
        scaling: 1,
      }),
    ]
  })
}
