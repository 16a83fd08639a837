/**
 * Outputs of a model on the CPU, with experts bound by the rules of a page, against those that torch gives.
 *
 * @module
 */
import { openCheckpoint } from '../compress/checkpoint.ts'
import { readFloats, type StoredTensor } from '../compress/safetensors.ts'
import { TritswapError } from '../errors.ts'
import { actsEverywhere } from '../format/invocation.ts'
import type { BaseMatch } from '../model/base_check.ts'
import type { BindingChoice } from '../model/expert_bindings.ts'
import { precisionOf } from '../model/weight_precision.ts'
import {
  type AdmittedExpert,
  type BoundExperts,
  ReferenceBase,
  readExpert,
  relativeDifference,
} from '../reference/index.ts'
import { openFile } from './file_source.ts'
import { type InputValues, isInputDtype, readInput } from './graph_inputs.ts'
import { ModelRun } from './model_outputs.ts'
import { outputInParts } from './parted_run.ts'
import type { PrepareOptions } from './prepare_model.ts'
import { openPreparedModel, type PreparedModel } from './prepared_base.ts'
import { withPreparedFolder } from './prepared_folder.ts'

/** What to compare. */
export interface CheckRequest {
  model: string
  inputs: string
  experts: { path: string; weight: number }[]
  /** Tensors of `inputs` that the outputs must be with the experts. */
  wants: readonly string[]
  /** The same without experts; `base` where there is one by default, `none` for none. */
  wantBase?: string
  output?: string
  binding: BindingChoice
  tolerance: number
  prepare: PrepareOptions
}

/** What is compared: the tensor of the file, and how far the outputs are from it. */
export interface CheckResult {
  name: string
  /** Over the range of the tensor. */
  difference: number
  right: boolean
}

/** What came of it: the outputs are right where every difference is within the tolerance. */
export interface CheckReport {
  model: string
  /** The graph that the output is of. */
  graph: string
  output: string
  tolerance: number
  right: boolean
  results: CheckResult[]
  /** How far the experts move the outputs, over their range without experts. */
  moved?: number
  experts: CheckedExpert[]
  /** Weights of the model that stay out of reach of experts, as far as it was prepared here. */
  unmatched: string[]
}

export interface CheckedExpert {
  file: string
  weight: number
  /** Names of the base by the expert's, where they differ. */
  renamed: Record<string, string>
  /** Targets that no graph uses. */
  unused: string[]
  /** What shows that it was made for this base. */
  baseMatch: BaseMatch
}

/**
 * Prepares the model into a folder that is removed again, unless it is prepared already, and compares.
 * @throws {TritswapError} what preparing, reading and binding throw, and `input` for tensors that are not there
 */
export async function checkModel(request: CheckRequest): Promise<CheckReport> {
  const { model, prepare } = request
  return withPreparedFolder(model, prepare, async ({ folder, isOwn, unmatched }) => {
    const prepared = await openPreparedModel(folder)
    if (isOwn) checkPrepared(model, prepared, prepare)
    return checkPreparedModel(request, { ...prepared, unmatched })
  })
}

/** @throws {TritswapError} `input` where the folder was prepared for another request */
function checkPrepared(folder: string, { manifest, weights }: PreparedModel, wanted: PrepareOptions): void {
  const isKept = weights.bindings.graphs.some(({ inputs }) => inputs.some(({ raw }) => raw !== undefined))
  const isQuantized = precisionOf(weights.head.table) !== undefined
  const found = { dtype: manifest.dtype, quantized: isKept ? 'keep' : 'float' }
  const differs = (key: keyof typeof found) => wanted[key] !== undefined && wanted[key] !== found[key]
  const other = differs('dtype') ? 'dtype' : isQuantized && differs('quantized') ? 'quantized' : undefined
  if (other === undefined) return
  throw new TritswapError(
    'input',
    `Cannot check ${folder} with --${other} ${wanted[other]}: it was prepared with ${found[other]}; name the folder that it was prepared from`,
    { fields: { folder, wanted: wanted[other], found: found[other] } },
  )
}

async function checkPreparedModel(
  request: CheckRequest,
  { manifest, weights, graphs, config, unmatched }: PreparedModel & { unmatched: string[] },
): Promise<CheckReport> {
  const { tolerance } = request
  const file = await openFile(request.inputs)
  try {
    const { tensors } = await openCheckpoint(file)
    const wantedOf = (name: string) => wantedTensor(tensors, name, request.inputs)
    const wants = request.wants.map((name) => ({ name, tensor: wantedOf(name) }))
    const wantBase = request.wantBase ?? (request.experts.length > 0 || wants.length === 0 ? 'base' : 'none')
    const baseTensor =
      request.wantBase === undefined
        ? tensors.get(wantBase)
        : wantBase !== 'none'
          ? wantedOf(wantBase)
          : undefined
    if (wants.length === 0 && baseTensor === undefined) {
      throw new TritswapError(
        'input',
        `Cannot check ${request.model}: ${request.inputs} has no tensor base; name what is wanted with --want, one of ${[...tensors.keys()].join(', ')}`,
        { fields: { inputs: request.inputs } },
      )
    }
    const given = new Map<string, InputValues>()
    const names = new Set([...request.wants, wantBase])
    for (const [name, tensor] of tensors)
      if (!names.has(name) && isInputDtype(tensor.dtype)) given.set(name, await readInput(tensor))
    const base = await ReferenceBase.create(
      weights,
      graphs.map(({ graph }) => graph),
      {
        name: request.model,
        fingerprint: manifest.fingerprint,
        dtype: manifest.dtype,
        modelType: config.model_type,
      },
    )
    const outputsOf = async (inputs: ReadonlyMap<string, InputValues>, bound?: BoundExperts) => {
      const bindings = graphs.map(({ graph: { file, bytes }, externalData }) => {
        const { variant, feeds } = base.feeds(file, bound)
        return { file, bytes: variant ?? bytes, externalData, feeds }
      })
      const model = new ModelRun(bindings, inputs, config)
      try {
        return await model.output(request.output)
      } finally {
        await model.release()
      }
    }
    const results: CheckResult[] = []
    const compare = async (
      name: string,
      found: Awaited<ReturnType<typeof outputsOf>>,
      tensor: StoredTensor,
    ) => {
      const wanted = { data: await readFloats(tensor), dims: tensor.shape }
      const difference = relativeDifference(found.values, wanted)
      results.push({ name, difference, right: difference <= tolerance })
    }
    const plain = await outputsOf(given)
    if (baseTensor !== undefined) await compare(wantBase, plain, baseTensor)
    const experts = await admitted(base, request.experts)
    const tunedBy = async (inputs: ReadonlyMap<string, InputValues>, acting: typeof experts) =>
      acting.length === 0 ? outputsOf(inputs) : outputsOf(inputs, await base.bind(acting, request.binding))
    const tables = experts.map(({ expert }) => expert.table)
    const tuned =
      experts.length === 0
        ? plain
        : tables.every(actsEverywhere)
          ? await tunedBy(given, experts)
          : await outputInParts(given, tables, (inputs, acting) =>
              tunedBy(
                inputs,
                acting.map((i) => experts[i]),
              ),
            )
    for (const { name, tensor } of wants) await compare(name, tuned, tensor)
    return {
      model: request.model,
      graph: plain.file,
      output: plain.name,
      tolerance,
      right: results.every(({ right }) => right),
      results,
      moved: experts.length === 0 ? undefined : relativeDifference(tuned.values, plain.values),
      experts: experts.map(({ path, weight, renamed, unused, baseMatch }) => ({
        file: path,
        weight,
        renamed: Object.fromEntries(renamed),
        unused: [...unused],
        baseMatch,
      })),
      unmatched,
    }
  } finally {
    await file.close()
  }
}

/** @throws {TritswapError} `input` naming the tensors that there are */
function wantedTensor(
  tensors: ReadonlyMap<string, StoredTensor>,
  name: string,
  inputs: string,
): StoredTensor {
  const tensor = tensors.get(name)
  if (tensor !== undefined) return tensor
  throw new TritswapError(
    'input',
    `Cannot compare with ${name}: ${inputs} has no such tensor, it has ${[...tensors.keys()].join(', ')}`,
    { fields: { tensor: name, inputs } },
  )
}

async function admitted(
  base: ReferenceBase,
  experts: CheckRequest['experts'],
): Promise<(AdmittedExpert & { path: string; weight: number })[]> {
  const all = []
  for (const { path, weight } of experts) {
    const source = await openFile(path)
    try {
      all.push({ ...(await base.admit(await readExpert(source), path)), path, weight })
    } finally {
      await source.close()
    }
  }
  return all
}
