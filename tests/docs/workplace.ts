/**
 * A folder with everything that the commands of README, guides and helps name.
 *
 * @module
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inject } from 'vitest'
import { type BroughtFiles, writeBrought } from '../../e2e/support/brought.ts'
import { openPath } from '../../src/cli/file_source.ts'
import { NodeSession } from '../../src/cli/node_session.ts'
import { openPreparedModel } from '../../src/cli/prepared_base.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressCheckpoint } from '../../src/compress/index.ts'
import { readFloats } from '../../src/compress/safetensors.ts'
import type { TensorValues } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { safetensors } from '../compress/checkpoints.ts'
import { TINY_CHAT } from '../engine/chat_models.ts'
import { prepared } from '../onnx/graphs.ts'

export const ROOT = join(import.meta.dirname, '../..')
/** An expert for the small model that takes the demo's place here. */
const EXPERT = join(TINY_CHAT, 'shout.trit')

/** What runs a model on the CPU, and many times: `eval_chats.test.ts` and `evaluation.test.ts` do. */
export function isSlow(command: string): boolean {
  return / --(eval|text|chats|examples|labels) /.test(command)
}

interface Fixtures extends BroughtFiles {
  /** The same base, prepared. */
  model: string
  other: Uint8Array
  expected: Uint8Array
}

let fixtures: Promise<Fixtures> | undefined

async function writeFixtures(): Promise<Fixtures> {
  const { out: model } = await prepared(TINY_CHAT)
  const weights = join(model, 'weights.trit')
  const brought = await writeBrought(join(inject('scratch'), 'brought'), { weights, expert: EXPERT })
  const { file } = await compressCheckpoint({
    base: fileOf(brought.base),
    finetuned: fileOf(brought.finetuned),
    options: { density: 0.02 },
  })
  return { ...brought, model, other: file, expected: await expectedOutputs(model, brought.finetuned) }
}

const fileOf = (path: string) => memorySource(readFileSync(path) as Uint8Array, path)

/** The inputs of one forward pass of a prepared model, and the logits with and without a fine-tuning. */
async function expectedOutputs(model: string, finetuned: string): Promise<Uint8Array> {
  const base = await openPreparedModel(model)
  const [{ graph }] = base.graphs
  const session = await NodeSession.create(graph.bytes)
  const tuned = new Map<string, Float32Array<ArrayBuffer>>()
  for (const [name, tensor] of (await openCheckpoint(await openPath(finetuned))).tensors)
    if (base.weights.knows(name)) tuned.set(name, await readFloats(tensor))
  const tokens = [5, 300, 41, 200, 7]
  const logits = async (changed?: TensorValues) => {
    const weights = session.weights(base.weights.feeds(graph.file, changed))
    const { data, vocabulary } = await session.logits(tokens, weights)
    return { shape: [1, tokens.length, vocabulary], values: data.slice() }
  }
  const outputs = { base: await logits(), poet: await logits(tuned) }
  await session.release()
  return safetensors({ input_ids: { shape: [1, tokens.length], values: tokens, dtype: 'I64' }, ...outputs })
}

/** A new folder, of what all of them are made from. */
export async function makeWorkplace(): Promise<string> {
  fixtures ??= writeFixtures()
  const { base, finetuned, lora, model, other, expected } = await fixtures
  const folder = mkdtempSync(join(inject('scratch'), 'work-'))
  cpSync(join(base, '..'), join(folder, 'base'), { recursive: true })
  for (const name of ['poet', 'finetuned']) {
    cpSync(finetuned, join(folder, name, 'model.safetensors'), { recursive: true })
  }
  writeFileSync(join(folder, 'expected.safetensors'), expected)
  writeFileSync(join(folder, 'other.trit'), other)
  cpSync(lora, join(folder, 'my-lora'), { recursive: true })
  cpSync(join(ROOT, 'public/texts/css.txt'), join(folder, 'text.txt'))
  cpSync(model, join(folder, 'public/models/demo'), { recursive: true })
  cpSync(TINY_CHAT, join(folder, 'onnx-model'), { recursive: true })
  return folder
}

/** Adds what only the examples of helps name: what other commands make, a base that chats, signs and terms. */
export function addForHelp(folder: string): void {
  const copy = (from: string, to: string) => cpSync(join(ROOT, from), join(folder, to), { recursive: true })
  cpSync(EXPERT, join(folder, 'poet.trit'))
  cpSync(join(folder, 'other.trit'), join(folder, 'experts/css.trit'))
  cpSync(join(folder, 'public/models/demo'), join(folder, 'models/mine'), { recursive: true })
  cpSync(join(folder, 'finetuned'), join(folder, 'rl-tuned'), { recursive: true })
  copy('results/models/assertion', 'classifier')
  copy('results/models/assertion-tuned/full-0.2.trit', 'classifier.trit')
  copy('results/models/labels/assertion.valid.jsonl', 'labels.jsonl')
  const chat = { user: 'What is the colour of it?', assistant: 'color: red;' }
  writeFileSync(join(folder, 'chats.jsonl'), `${JSON.stringify(chat)}\n`)
  const name = 'model.layers.0.self_attn.q_proj.weight'
  const { shape } = JSON.parse(headOf(join(folder, 'base/model.safetensors')))[name] as { shape: number[] }
  const values = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => ((i % 10) % 3) - 1)
  const signs = {
    [name]: { shape, values, dtype: 'I8' as const },
    [`${name}.scale`]: { shape: [], values: [0.01] },
  }
  writeFileSync(join(folder, 'signs.safetensors'), safetensors(signs))
  const patch = {
    [`${name}.idx`]: { shape: [3], values: [1, 5, 900], dtype: 'I32' as const },
    [`${name}.val`]: { shape: [3], values: [1, 0.5, -0.25] },
  }
  const meta = { format: 'sparse_weight_patch', version: '1', sparse: 'True', encoding: 'raw' }
  mkdirSync(join(folder, 'deltas'))
  writeFileSync(join(folder, 'deltas/step_000002.safetensors'), safetensors(patch, meta))
  const terms = {
    [`${name}.x`]: { shape: [shape[0], 1], values: values.slice(0, shape[0]), dtype: 'I8' as const },
    [`${name}.y`]: { shape: [1, shape[1]], values: values.slice(0, shape[1]), dtype: 'I8' as const },
    [`${name}.d`]: { shape: [1], values: [0.01] },
  }
  writeFileSync(join(folder, 'terms.safetensors'), safetensors(terms))
  mkdirSync(join(folder, 'models'), { recursive: true })
}

/** The JSON of a safetensors file. */
function headOf(path: string): string {
  const bytes = readFileSync(path)
  return bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString()
}
