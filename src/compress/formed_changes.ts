/**
 * Changes that kinds of adapters make to modules, as tensors of a task vector: pairs where the factors are few, else
 * matrices, formed when they are read.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { AdapterContext, AdapterTensor } from './adapter_context.ts'
import { formedTensor } from './formed_tensor.ts'
import { type AdapterKind, isFew, Module, valuesOf, type WeightChange } from './kinds/kind.ts'
import { type Matrix, product, transposedMatrix } from './matrices.ts'
import { type BaseModule, baseModule, keepsInputsFirst, sizeOf, weightValues } from './modules.ts'
import { noTarget } from './no_target.ts'
import type { FormedSettings, LoraSettings } from './peft_config.ts'
import type { StoredTensor } from './safetensors.ts'
import type { TaskTensor } from './task_vector.ts'
import { sameBytes } from './ties.ts'

type FormedContext = AdapterContext<FormedSettings | LoraSettings>

/**
 * The tensors of all modules that a kind of adapter trains.
 * @throws {TritswapError} `input` for an adapter that needs a base and has none
 */
export async function formedTensors(kind: AdapterKind, context: FormedContext): Promise<TaskTensor[]> {
  const modules = new Map<string, Map<string, AdapterTensor>>()
  const shared = new Map<string, StoredTensor>()
  for (const tensor of context.tensors) {
    const { part, piece, path, stored } = tensor
    if (part !== 'formed' || piece === undefined) continue
    if (path === '') shared.set(piece, stored)
    else modules.set(path, (modules.get(path) ?? new Map()).set(piece, tensor))
  }
  const all: TaskTensor[] = []
  for (const [path, pieces] of modules) {
    const parts = new Map(Array.from(pieces, ([piece, { stored }]) => [piece, stored]))
    if (await isCopy(path, parts, kind, context, modules)) continue
    all.push(...(await moduleTensors({ path, parts, shared }, kind, context)))
  }
  return all
}

/** An output layer that is tied to an embedding is saved with the embedding's tensors again. */
async function isCopy(
  path: string,
  parts: ReadonlyMap<string, StoredTensor>,
  { parts: names }: AdapterKind,
  context: FormedContext,
  modules: ReadonlyMap<string, ReadonlyMap<string, AdapterTensor>>,
): Promise<boolean> {
  const own = await baseModule(path, context)
  if (own?.isShared !== true || own.layout === 'embedding') return false
  for (const [other, pieces] of modules) {
    if (other === path || (await baseModule(other, context))?.weight !== own.weight) continue
    const same = await Promise.all(
      names.map(async (name) => {
        const [a, b] = [parts.get(name), pieces.get(name)?.stored]
        return a === b || (a !== undefined && b !== undefined && (await sameBytes(a, b)))
      }),
    )
    if (!same.every(Boolean)) continue
    context.notes.push(`Left out what is trained for ${path}: tied to ${other}, and counted once`)
    context.copies.push(...Array.from(parts.values(), ({ name }) => name))
    return true
  }
  return false
}

async function moduleTensors(
  {
    path,
    parts,
    shared,
  }: { path: string; parts: Map<string, StoredTensor>; shared: Map<string, StoredTensor> },
  kind: AdapterKind,
  context: FormedContext,
): Promise<TaskTensor[]> {
  const [first] = parts.values()
  try {
    const own = await baseModule(path, context)
    if (own === undefined && context.base !== undefined) {
      throw noTarget(path, ['out', 'in'], context.base.name, undefined)
    }
    const { config, rankPattern, alphaPattern } = context.settings
    const bias = own?.bias
    const source = { path, parts, shared, config, rankPattern, alphaPattern }
    const module = new Module({
      ...source,
      size: own === undefined ? kind.size?.(new Module(source)) : sizeOf(own),
      filter: own?.layout === 'conv2d' ? own.weight.shape.slice(1) : undefined,
      weight: own && (() => weightValues(own)),
      bias: bias && (() => valuesOf(bias)),
    })
    const { weight, bias: addedToBias } = kind.change(module)
    return [
      ...(weight === undefined
        ? []
        : changeTensors(weight, { path, module, own, from: first, ofAll: kind.followsTies }, context)),
      ...(addedToBias === undefined ? [] : [biasTensor(path, own, addedToBias, first, context)]),
    ]
  } catch (problem) {
    if (!(problem instanceof TritswapError)) throw problem
    const target = `${path}.weight`
    return [{ name: first.name, shape: first.shape, role: 'delta', target, theta: first, init: 0, problem }]
  }
}

interface Place {
  path: string
  module: Pick<Module, 'rows' | 'cols'>
  own?: BaseModule
  /** It changes all modules that share the weight. */
  ofAll?: boolean
  /** A tensor of the file that it is formed from. */
  from: StoredTensor
}

/** What is added to a weight, as a pair or as a matrix. */
function changeTensors(change: WeightChange, place: Place, context: AdapterContext): TaskTensor[] {
  const { path, module, own, from } = place
  const { rows, cols } = module
  if (change.kind === 'product' && own?.layout !== 'embedding' && isFew(change.rank, rows, cols)) {
    const { rank, factors } = change
    const layout = own?.layout ?? (keepsInputsFirst(path, context.settings.fanInFanOut) ? 'conv1d' : 'linear')
    const common = { target: own?.knownAs ?? `${path}.weight`, layout, init: 0 as const }
    const isConv = layout === 'conv2d'
    const pair = (which: 'A' | 'B', shape: readonly number[], values: () => Promise<Matrix>): TaskTensor => {
      const name = `base_model.model.${path}.lora_${which}.weight`
      const role = which === 'A' ? ('loraA' as const) : ('loraB' as const)
      const theta = formedTensor(name, shape, from.source.name, async () => floats(await values()))
      return { name, shape, role, scaling: which === 'B' ? 1 : undefined, ...common, theta }
    }
    return [
      pair(
        'A',
        [rank, ...(isConv ? own!.weight.shape.slice(1) : [cols])],
        async () => (await factors()).right,
      ),
      pair(
        'B',
        [rows, rank, ...(isConv ? own!.weight.shape.slice(2).map(() => 1) : [])],
        async () => (await factors()).left,
      ),
    ]
  }
  const values =
    change.kind === 'product'
      ? async () => {
          const { left, right } = await change.factors()
          return product(left, right)
        }
      : change.values
  return [deltaTensor(values, place, context)]
}

function deltaTensor(
  values: () => Promise<Matrix>,
  { path, module, own, from, ofAll = false }: Place,
  context: AdapterContext,
): TaskTensor {
  const isTransposed =
    own === undefined ? keepsInputsFirst(path, context.settings.fanInFanOut) : own.layout === 'conv1d'
  const { rows, cols } = module
  const shape = own?.weight.shape ?? (isTransposed ? [cols, rows] : [rows, cols])
  const knownAs = own?.knownAs ?? `${path}.weight`
  const form = async () => {
    const all = await values()
    return floats(isTransposed ? transposedMatrix(all) : all)
  }
  const theta = formedTensor(knownAs, shape, from.source.name, form)
  const target = own?.weight.name ?? knownAs
  const layout = own?.isShared && !ofAll ? own.layout : undefined
  return { name: knownAs, shape, role: 'delta', target, knownAs, layout, theta, init: 0 }
}

/** @throws {TritswapError} `unsupported` where the base's module has no bias to add to */
export function biasTensor(
  path: string,
  own: BaseModule | undefined,
  values: () => Promise<Matrix>,
  from: StoredTensor,
  { base, name }: AdapterContext,
): TaskTensor {
  if (own?.bias === undefined) {
    throw base === undefined
      ? new TritswapError(
          'input',
          `Cannot compress ${name}: it trains the bias of ${path}; give the base with --base`,
          { fields: { name, module: path } },
        )
      : new TritswapError(
          'unsupported',
          `Cannot compress ${name}: it adds a bias to ${path}, which has none in ${base.name}, and so the exported graph has no place for it; leave it out with --exclude, or train without it`,
          { fields: { name, module: path } },
        )
  }
  const { bias } = own
  const theta = formedTensor(bias.name, bias.shape, from.source.name, async () => floats(await values()))
  return { name: bias.name, shape: bias.shape, role: 'delta', target: bias.name, theta, init: 0 }
}

function floats({ values }: Matrix): Float32Array<ArrayBuffer> {
  return Float32Array.from(values)
}
