/**
 * Adapter folders as `peft` writes them. ComPEFT compresses the factors themselves: theta_init is 0 for LoRA's A
 * and B, 1 for (IA)³, the base weight for whatever else the file holds (biases, modules_to_save).
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { contributionsOf, misfitOf, tensorsOf } from '../format/contributions.ts'
import type { ModuleLayout } from '../format/table.ts'
import { type Checkpoint, type FileFolder, pickle, readJson } from './checkpoint.ts'
import { isFloat } from './dtypes.ts'
import {
  type AdapterSettings,
  type Ia3Settings,
  isFeedforward,
  type LoraSettings,
  matchPattern,
  readAdapterConfig,
  refused,
} from './peft_config.ts'
import { readBytes, readFloats, readSafetensors, type StoredTensor } from './safetensors.ts'
import type { TaskTensor, TaskVector } from './task_vector.ts'

const CONFIG = 'adapter_config.json'
const WEIGHTS = 'adapter_model.safetensors'
const PICKLED = 'adapter_model.bin'

/** `peft` wraps the model twice: PeftModel.base_model is a tuner, and its model is the user's. */
const PREFIX = 'base_model.model.'

const LORA = /^(.+)\.(lora_A|lora_B)\.weight$/
const LORA_EMBEDDING = /^(.+)\.(lora_embedding_A|lora_embedding_B)$/
const IA3 = /^(.+)\.ia3_l$/
/** Parts of methods that the configuration should have named already. */
const FOREIGN: [RegExp, string][] = [
  [/\.lora_magnitude_vector(\.weight)?$/, 'DoRA'],
  [/\.lora_E$/, 'AdaLoRA'],
  [/\.lora_B\.bias$/, 'LoRA with a bias in B'],
  [/\.hada_[wt]\d(_[ab])?$/, 'LoHa'],
  [/\.lokr_/, 'LoKr'],
  [/\.vera_lambda_/, 'VeRA'],
  [/(^|\.)prompt_embeddings$/, 'prompt tuning'],
  [/\.(lora_|token_adapter\.)/, 'an unknown kind of LoRA'],
]

/**
 * The task vector of an adapter.
 * @param base - needed only where the file holds more than LoRA and (IA)³ tensors; with it every target is checked
 * @throws {TritswapError} `unsupported` naming the method, for everything but LoRA and (IA)³
 */
export async function adapterTaskVector(folder: FileFolder, base?: Checkpoint): Promise<TaskVector> {
  const files = await folder.list()
  if (!files.includes(CONFIG)) {
    throw new TritswapError(
      'input',
      `Cannot open ${folder.name} as an adapter: expected ${CONFIG} and ${WEIGHTS} in it`,
      {
        fields: { name: folder.name },
      },
    )
  }
  const settings = readAdapterConfig(await readJson(await folder.open(CONFIG)), folder.name)
  if (!files.includes(WEIGHTS)) {
    if (files.includes(PICKLED)) throw pickle(`${folder.name}/${PICKLED}`)
    throw new TritswapError('input', `Cannot open ${folder.name} as an adapter: expected ${WEIGHTS} in it`)
  }
  const source = await folder.open(WEIGHTS)
  const stored = (await readSafetensors(source)).tensors.filter(({ weights }) => weights > 0)
  const byName = new Map(stored.map((tensor) => [tensor.name, tensor]))
  const notes: string[] = []
  const tensors: TaskTensor[] = []
  let hasAdapter = false
  for (const tensor of stored) {
    const task =
      settings.kind === 'lora'
        ? loraTensor(tensor, byName, settings, base)
        : ia3Tensor(tensor, settings, base)
    hasAdapter ||= task !== undefined
    const found = task ?? (await deltaTensor(tensor, byName, folder.name, base, notes))
    if (found !== undefined) tensors.push(found)
  }
  if (!hasAdapter) {
    throw new TritswapError(
      'input',
      `Cannot compress ${folder.name}: ${WEIGHTS} holds no ${settings.kind === 'lora' ? 'LoRA factors' : '(IA)³ vectors'}`,
    )
  }
  if (base !== undefined) checkTargets(tensors, base, notes)
  return {
    method: settings.kind,
    tensors,
    base: base?.tensors,
    baseName: settings.baseName,
    sources: [source],
    notes,
  }
}

function strip(name: string): string {
  return name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name
}

function loraTensor(
  tensor: StoredTensor,
  all: ReadonlyMap<string, StoredTensor>,
  settings: LoraSettings,
  base?: Checkpoint,
): TaskTensor | undefined {
  const embedding = LORA_EMBEDDING.exec(tensor.name)
  const match = embedding ?? LORA.exec(tensor.name)
  if (match === null) return undefined
  const [, module, part] = match
  const isA = part.endsWith('A')
  const suffix = embedding === null ? '.weight' : ''
  const other = `${module}.${part.slice(0, -1)}${isA ? 'B' : 'A'}${suffix}`
  const pair = all.get(other)
  if (pair === undefined) {
    throw new TritswapError(
      'input',
      `Cannot compress ${tensor.name}: expected its other factor ${other} in the file`,
      {
        fields: { tensor: tensor.name, expected: other },
      },
    )
  }
  const [a, b] = isA ? [tensor, pair] : [pair, tensor]
  const path = strip(module)
  checkFactors(a, b, path, settings)
  const rank = a.shape[0]
  const alpha = matchPattern(settings.alphaPattern, path, settings.alpha)
  const target = `${path}.weight`
  return {
    name: tensor.name,
    shape: tensor.shape,
    role: isA ? 'loraA' : 'loraB',
    target,
    scaling: isA ? undefined : alpha / (settings.rslora ? Math.sqrt(rank) : rank),
    layout: embedding === null ? layoutOf(a, b, path, settings, base) : 'embedding',
    theta: tensor,
    init: 0,
  }
}

/** A is [r, in, …], B is [out, r, …], r what the configuration says for this module. */
function checkFactors(a: StoredTensor, b: StoredTensor, path: string, settings: LoraSettings): void {
  const rank = matchPattern(settings.rankPattern, path, settings.rank)
  const fits = a.shape.length === b.shape.length && a.shape[0] === rank && b.shape[1] === rank
  const flat = a.shape.length === 2
  const pointwise = a.shape.length === 4 && b.shape[2] === 1 && b.shape[3] === 1
  if (fits && (flat || pointwise)) return
  if (a.shape.length === 3 || a.shape.length === 5) {
    throw refused(path, `LoRA on a ${a.shape.length - 2}-d convolution`, `its A has shape [${a.shape}]`)
  }
  if (a.shape.length === 4 && a.shape[0] === rank) {
    throw refused(path, 'LoRA on a grouped convolution', `its B has shape [${b.shape}] at rank ${rank}`)
  }
  throw new TritswapError(
    'input',
    `Cannot compress the LoRA of ${path}: expected factors of rank ${rank} as ${CONFIG} says, found A [${a.shape}] and B [${b.shape}]`,
    { fields: { module: path, rank, a: a.shape, b: b.shape } },
  )
}

/** Output layers are nn.Linear even in models whose other layers are Conv1D. */
const ALWAYS_LINEAR = /(^|\.)(lm_head|score|classifier|embed_out)$/

/**
 * `peft` uses `fan_in_fan_out` only where the module is a Conv1D, and says nothing about which are; the shape in the
 * base does, unless it is square.
 */
function layoutOf(
  a: StoredTensor,
  b: StoredTensor,
  path: string,
  settings: AdapterSettings,
  base?: Checkpoint,
): ModuleLayout {
  if (a.shape.length === 4) return 'conv2d'
  const shape = base?.tensors.get(`${path}.weight`)?.shape
  if (shape?.length === 2 && shape[0] !== shape[1]) {
    return shape[0] === a.shape[1] && shape[1] === b.shape[0] ? 'conv1d' : 'linear'
  }
  return settings.fanInFanOut && !ALWAYS_LINEAR.test(path) ? 'conv1d' : 'linear'
}

function ia3Tensor(tensor: StoredTensor, settings: Ia3Settings, base?: Checkpoint): TaskTensor | undefined {
  const match = IA3.exec(tensor.name)
  if (match === null) return undefined
  const path = strip(match[1])
  const { shape } = tensor
  const feedforward = isFeedforward(settings, path)
  const linear = shape.length === 2 && shape[feedforward ? 0 : 1] === 1
  const conv = shape.length === 4 && tensor.weights === shape[1]
  if (!linear && !conv) {
    throw new TritswapError(
      'input',
      `Cannot compress ${tensor.name}: expected ${feedforward ? '[1, in]' : '[out, 1]'} as ${CONFIG} says, found [${shape}]`,
      { fields: { tensor: tensor.name, shape } },
    )
  }
  const outer = base?.tensors.get(`${path}.weight`)?.shape
  const size = feedforward ? 1 : 0
  const isConv1d =
    outer?.length === 2 && outer[0] !== outer[1] ? outer[1 - size] === tensor.weights : settings.fanInFanOut
  return {
    name: tensor.name,
    shape,
    role: 'ia3',
    target: `${path}.weight`,
    layout: conv ? 'conv2d' : isConv1d ? 'conv1d' : 'linear',
    feedforward,
    theta: tensor,
    init: 1,
  }
}

/** A bias or a module that was trained and saved whole: a delta against the base. */
async function deltaTensor(
  tensor: StoredTensor,
  all: ReadonlyMap<string, StoredTensor>,
  folder: string,
  base: Checkpoint | undefined,
  notes: string[],
): Promise<TaskTensor | undefined> {
  const { name, shape } = tensor
  for (const [pattern, method] of FOREIGN) {
    if (pattern.test(name)) throw refused(folder, method, `it holds ${name}`)
  }
  if (name.includes('.original_module.')) {
    notes.push(`Left out ${name}: peft's own copy of what modules_to_save replaces, never used`)
    return undefined
  }
  // With bias "all" peft saves the bias of a saved module under both of its names.
  const plain = name.replace('.modules_to_save.', '.')
  const twin = plain === name ? undefined : all.get(plain)
  if (twin !== undefined) {
    const [a, b] = await Promise.all([readBytes(tensor), readBytes(twin)])
    if (tensor.dtype === twin.dtype && a.length === b.length && a.every((byte, i) => byte === b[i])) {
      notes.push(`Left out ${name}: a second copy of ${plain}`)
      return undefined
    }
    throw new TritswapError(
      'input',
      `Cannot compress ${name}: the file holds ${plain} with other values, and both mean the same weight`,
    )
  }
  const target = strip(plain).replace('.base_layer.', '.')
  if (base === undefined) {
    throw new TritswapError(
      'input',
      `Cannot compress ${folder}: it holds ${name} whole (a bias, or a module in modules_to_save), which is stored as a difference from the base; give the base with --base`,
      { fields: { name: folder, tensor: name } },
    )
  }
  const init = base.tensors.get(target)
  // With an output layer among the targets peft saves what lies below its factors as well, frozen as it is.
  if (name.endsWith('.base_layer.weight') && (await isIn(base, tensor, init))) {
    notes.push(`Left out ${name}: a copy of what ${base.name} has`)
    return undefined
  }
  if (init === undefined || init.shape.join() !== shape.join() || !isFloat(init.dtype)) {
    const found = init === undefined ? 'none' : `${init.dtype} [${init.shape}]`
    throw new TritswapError(
      'base',
      `Cannot compress ${name}: expected ${target} of shape [${shape}] in ${base.name}, found ${found}; give the base that the adapter was trained on`,
      {
        fields: { tensor: name, target },
      },
    )
  }
  return { name, shape, role: 'delta', target, theta: tensor, init }
}

/** Whether the base has these very values: at `init`, or, where it ties them to another tensor, anywhere. */
async function isIn(base: Checkpoint, tensor: StoredTensor, init?: StoredTensor): Promise<boolean> {
  for (const other of init === undefined ? base.tensors.values() : [init]) {
    if (await sameValues(tensor, other)) return true
  }
  return false
}

const COMPARE_WEIGHTS = 2 ** 20

async function sameValues(a: StoredTensor, b: StoredTensor): Promise<boolean> {
  if (a.shape.join() !== b.shape.join() || !isFloat(a.dtype) || !isFloat(b.dtype)) return false
  for (let from = 0; from < a.weights; from += COMPARE_WEIGHTS) {
    const count = Math.min(COMPARE_WEIGHTS, a.weights - from)
    const [x, y] = await Promise.all([readFloats(a, from, count), readFloats(b, from, count)])
    if (!x.every((value, i) => value === y[i])) return false
  }
  return true
}

/** What output layers may be tied to. */
const EMBEDDING = /(embed|wte|shared)/

/** @throws {TritswapError} `base` where a LoRA or (IA)³ tensor has no weight to act on, or one of another size */
function checkTargets(tensors: readonly TaskTensor[], base: Checkpoint, notes: string[]): void {
  for (const contribution of contributionsOf(tensors)) {
    if (contribution.kind === 'delta') continue
    const { target } = contribution
    const found = base.tensors.get(target)
    const misfit = found && misfitOf(contribution, found.shape)
    if (found !== undefined && misfit !== undefined) throw noTarget(misfit.tensor, base, `[${found.shape}]`)
    if (found !== undefined) continue
    const isTied = [...base.tensors].some(
      ([name, { shape }]) =>
        EMBEDDING.test(name) && shape.length === 2 && misfitOf(contribution, shape) === undefined,
    )
    if (!isTied) throw noTarget(tensorsOf(contribution)[0].tensor, base, 'none')
    const note = `${target} is not in ${base.name}, which ties it to its embedding: no sketch is stored`
    if (!notes.includes(note)) notes.push(note)
  }
}

function noTarget(tensor: TaskTensor, base: Checkpoint, found: string): TritswapError {
  return new TritswapError(
    'base',
    `Cannot compress ${tensor.name} of shape [${tensor.shape}]: expected a fitting ${tensor.target} in ${base.name}, found ${found}; give the base that the adapter was trained on`,
    { fields: { tensor: tensor.name, target: tensor.target, found } },
  )
}
