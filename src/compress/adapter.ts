/**
 * Adapter folders as `peft` writes them. ComPEFT compresses the factors themselves: theta_init is 0 for LoRA's A
 * and B, 1 for (IA)³, the base weight for whatever else the file holds (biases, modules_to_save). Of other kinds the change of
 * each weight is formed from their tensors (`kinds`), as factors where these are few.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../errors.ts'
import { factorOf } from '../format/contributions.ts'
import type { TritMethod } from '../format/table.ts'
import type { AdapterContext, AdapterTensor } from './adapter_context.ts'
import { formedPieces, parseAdapterName } from './adapter_names.ts'
import { BaseNames } from './base_names.ts'
import { type Checkpoint, type FileFolder, pickle, readJson } from './checkpoint.ts'
import { isFloat } from './dtypes.ts'
import { formedTensors } from './formed_changes.ts'
import { ia3Tensor } from './ia3.ts'
import { trainableTokens } from './kinds/entries.ts'
import { loraBiasTensor, loraTensor, magnitudeTensors, refuseHalfTied } from './lora.ts'
import { type AdapterSettings, readAdapterConfig } from './peft_config.ts'
import { refused, refuseForeignTensor } from './peft_methods.ts'
import { placeholder } from './placeholders.ts'
import { readSafetensors, type StoredTensor } from './safetensors.ts'
import { savedTensor } from './saved_modules.ts'
import type { TaskTensor, TaskVector } from './task_vector.ts'
import { virtualTensors } from './virtual_tokens.ts'

/** Marks a folder as an adapter's. */
export const ADAPTER_CONFIG = 'adapter_config.json'
const WEIGHTS = 'adapter_model.safetensors'
const PICKLED = 'adapter_model.bin'

/**
 * The task vector of an adapter. What cannot be compressed comes as a tensor with a `problem`, so that it can be left
 * out.
 * @param base - needed for kinds that change a weight by what it is, and where the file holds tensors whole; with it every
 * target is checked
 * @throws {TritswapError} `unsupported` naming the method, for what changes no weights or not the same ones for every token
 */
export async function adapterTaskVector(folder: FileFolder, base?: Checkpoint): Promise<TaskVector> {
  const { name } = folder
  const files = await folder.list()
  if (!files.includes(ADAPTER_CONFIG)) {
    throw new TritswapError(
      'input',
      `Cannot open ${name} as an adapter: expected ${ADAPTER_CONFIG} and ${WEIGHTS} in it`,
      { fields: { name } },
    )
  }
  const settings = await readAdapterConfig(await readJson(await folder.open(ADAPTER_CONFIG)), name)
  if (!files.includes(WEIGHTS)) {
    if (files.includes(PICKLED)) throw pickle(`${name}/${PICKLED}`)
    throw new TritswapError('input', `Cannot open ${name} as an adapter: expected ${WEIGHTS} in it`)
  }
  const source = await folder.open(WEIGHTS)
  const stored = (await readSafetensors(source)).tensors
  const kind =
    settings.kind === 'formed' ? settings.own : settings.kind === 'lora' ? trainableTokens : undefined
  const pieces = kind && formedPieces(kind.parts, kind.shared)
  const named = stored.map((tensor) => ({ stored: tensor, ...parseAdapterName(tensor.name, pieces) }))
  refuseSeveral(named, name)
  for (const { part, stored } of named) {
    if (
      (part === 'whole' || part === 'virtual') &&
      !isOwnPart({ part }, settings) &&
      settings.kind !== 'formed'
    )
      refuseForeignTensor(stored.name, name)
    if (part === 'magnitude' && !(settings.kind === 'lora' && settings.dora)) {
      throw refused(name, 'DoRA without use_dora in its configuration', `it holds ${stored.name}`)
    }
  }
  const notes: string[] = []
  const context: AdapterContext = {
    name,
    settings,
    tensors: named,
    byName: new Map(named.map((tensor) => [tensor.stored.name, tensor])),
    base,
    baseNames: base && new BaseNames(base.tensors),
    copies: [],
    notes,
  }
  const tensors: TaskTensor[] = []
  for (const tensor of named)
    if (tensor.part !== 'formed') tensors.push(...(await taskTensors(tensor, context)))
  if (kind !== undefined && settings.kind !== 'ia3' && settings.kind !== 'prompt') {
    for (const tensor of named) if (tensor.part === 'formed') checkActivated(tensor, settings)
    tensors.push(...(await formedTensors(kind, { ...context, settings })))
  }
  if (kind?.parts.length !== 0 && !named.some((tensor) => isOwnPart(tensor, settings))) {
    const expected =
      settings.kind === 'lora'
        ? 'LoRA factors'
        : settings.kind === 'ia3'
          ? '(IA)³ vectors'
          : settings.kind === 'prompt'
            ? 'prompt_embeddings'
            : `tensors of ${kind?.label}`
    throw new TritswapError('input', `Cannot compress ${name}: ${WEIGHTS} holds no ${expected}`)
  }
  await refuseHalfTied(context)
  return {
    method: settings.kind === 'formed' ? methodOf(tensors) : settings.kind,
    tensors,
    invocation: settings.kind === 'lora' ? settings.invocation : undefined,
    copies: context.copies,
    base: base?.tensors,
    baseName: settings.baseName,
    sources: [source],
    notes,
  }
}

/** LoRA by another name, or a change of whole weights. */
function methodOf(tensors: readonly TaskTensor[]): TritMethod {
  return tensors.some((tensor) => factorOf(tensor) !== undefined) ? 'lora' : 'full'
}

/** Whether a tensor is one of those that the adapter's method trains. */
function isOwnPart({ part }: Pick<AdapterTensor, 'part'>, { kind }: AdapterSettings): boolean {
  if (kind === 'formed') return part === 'formed'
  if (kind === 'prompt' || part === 'virtual') return kind === 'prompt' && part === 'virtual'
  return part !== 'whole' && (part === 'ia3') === (kind === 'ia3')
}

/** What a tensor is to the base; nothing for one that means nothing. */
async function taskTensors(tensor: AdapterTensor, context: AdapterContext): Promise<TaskTensor[]> {
  const { stored, path } = tensor
  const { settings } = context
  const isOwn = isOwnPart(tensor, settings)
  try {
    if (stored.weights === 0) throw placeholder(stored)
    if (!isOwn) {
      if (settings.kind === 'prompt')
        throw refused(context.name, 'virtual tokens with modules saved whole', `it holds ${stored.name}`)
      const saved = await savedTensor(tensor, context)
      if (saved !== undefined) checkActivated(tensor, settings)
      return saved === undefined ? [] : [saved]
    }
    if (!isFloat(stored.dtype)) throw notFloat(stored)
    if (settings.kind === 'prompt') return virtualTensors(tensor, { ...context, settings })
    if (settings.kind === 'ia3') return [ia3Tensor(tensor, { ...context, settings })]
    if (settings.kind !== 'lora') return []
    if (tensor.part === 'embeddingA' || tensor.part === 'embeddingB' || stored.shape.length > 2)
      checkActivated(tensor, settings)
    const lora = { ...context, settings }
    if (tensor.part === 'magnitude') return await magnitudeTensors(tensor, lora)
    return [tensor.part === 'bias' ? await loraBiasTensor(tensor, lora) : await loraTensor(tensor, lora)]
  } catch (problem) {
    if (!isTritswapError(problem)) throw problem
    const target = isOwn ? `${path}.weight` : path
    return [
      { name: stored.name, shape: stored.shape, role: 'delta', target, theta: stored, init: 0, problem },
    ]
  }
}

/** @throws {TritswapError} `unsupported` for what peft lets act on every token while the factors of linears wait for theirs */
function checkActivated({ stored }: AdapterTensor, settings: AdapterSettings): void {
  if (settings.kind !== 'lora' || settings.invocation === undefined) return
  throw new TritswapError(
    'unsupported',
    `Cannot compress ${stored.name}: in peft only the factors of linear layers of an aLoRA wait for its invocation, and this acts on every token, so the base would not read the text before it; leave it out with --exclude if it is as it was, or train the aLoRA without it`,
    { fields: { tensor: stored.name } },
  )
}

/** @throws {TritswapError} `input` for more than one adapter in a file: together they would be another one */
function refuseSeveral(tensors: readonly AdapterTensor[], name: string): void {
  const adapters = new Set(tensors.flatMap(({ adapter, part }) => (part === 'whole' ? [] : [adapter])))
  if (adapters.size < 2) return
  const names = [...adapters].map((adapter) => adapter ?? '(no name)')
  throw new TritswapError(
    'input',
    `Cannot compress ${name}: it holds several adapters, ${names.slice(0, 5).join(', ')}; save each on its own`,
    { fields: { name, adapters: names } },
  )
}

function notFloat({ name, dtype }: StoredTensor): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot compress ${name}: expected F32, F16, BF16 or F64, found ${dtype}; save the adapter in one of them`,
    { fields: { tensor: name, dtype } },
  )
}
