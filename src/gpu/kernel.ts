import {
  type ArrayDefinition,
  makeShaderDataDefinitions,
  type ShaderDataDefinitions,
  type TypeDefinition,
} from 'webgpu-utils'
import { TritswapError } from '../errors.ts'
import type { Gpu } from './device.ts'
import { constantsIn } from './shader_constants.ts'
import { assemble, type ShaderSources, SOURCES } from './shaders.ts'
import { type Write, writerOf } from './struct_writer.ts'
import { LIST_MODULES, TARGET_MODULES, type TargetDtype } from './target.ts'
import { tuningOf } from './tuning.ts'

/** Values of a WGSL struct by field name. */
export interface Params {
  readonly [field: string]: number | readonly number[] | Params | readonly Params[]
}

/** What a kernel is bound to, by the names of its WGSL variables. */
export type Bindings = Readonly<Record<string, GPUBufferBinding>>

function codeOf(
  gpu: Gpu,
  name: string,
  aliases: Readonly<Record<string, string>> = {},
  sources: ShaderSources = SOURCES,
): string {
  const { workgroup, codes, lanes, slots } = tuningOf(gpu)
  return assemble(name, { workgroup, codes, lanes, ...aliases }, sources, slots)
}

/** Invocations in a workgroup; a size may be the name of a constant. */
function groupSizeOf(code: string): number {
  const sizes = /@workgroup_size\(([\w, ]+)\)/.exec(code)?.[1].split(/, */) ?? []
  const constants = constantsIn(code)
  return sizes.reduce((product, size) => product * (constants.get(size) ?? Number(size)), 1)
}

/** A variable that is bound. */
interface Slot {
  name: string
  binding: number
  type: GPUBufferBindingType
}

const VARIABLE = /@group\(0\) *@binding\((\d+)\) *var<(?:(uniform)|storage, *(read|read_write))> +(\w+)/g
const BINDING_TYPES = { read: 'read-only-storage', read_write: 'storage' } as const

function slotsOf(code: string): Slot[] {
  return Array.from(code.matchAll(VARIABLE), ([, binding, uniform, access, name]) => ({
    name,
    binding: Number(binding),
    type: uniform ? 'uniform' : BINDING_TYPES[access as keyof typeof BINDING_TYPES],
  }))
}

/** Name of the uniform that is a list of jobs. Many lists are in one buffer: which it is, a dispatch says. */
const LIST = 'list'

/** The layout of the bind group, written out: one that a device makes up has no dynamic offsets. */
function layoutOf(device: GPUDevice, label: string, slots: readonly Slot[]): GPUBindGroupLayout {
  return device.createBindGroupLayout({
    label,
    entries: slots.map(({ name, binding, type }) => ({
      binding,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type, hasDynamicOffset: name === LIST },
    })),
  })
}

/**
 * One compute pipeline, whose variables are in one bind group. Bindings, struct layouts and workgroup size are read from
 * its WGSL; its one uniform, if it has one, is called `params`, or `list` where it takes a list of jobs.
 */
export class Kernel {
  readonly pipeline: GPUComputePipeline
  /** Invocations in a workgroup. */
  readonly groupSize: number
  /** Invocations that share a block, of a kernel that walks blocks. */
  readonly lanes: number
  /** Name of the uniform. */
  readonly paramsName: string
  /** Bytes of the uniform, 0 without. */
  readonly paramsBytes: number
  /** Layout of the uniform. */
  readonly paramsType: TypeDefinition | undefined
  readonly #device: GPUDevice
  readonly #layout: GPUBindGroupLayout
  readonly #slots: readonly Slot[]
  readonly #definitions: ShaderDataDefinitions
  readonly #writeParams: Write | undefined

  /** @throws {TritswapError} `webgpu` for sources that do not fit together or do not compile */
  static async create(
    gpu: Gpu,
    name: string,
    aliases: Readonly<Record<string, string>>,
    sources: ShaderSources,
  ): Promise<Kernel> {
    return Kernel.compile(gpu, name, codeOf(gpu, name, aliases, sources))
  }

  /** @throws {TritswapError} `webgpu` for code that does not compile */
  static async compile({ device }: Gpu, name: string, code: string): Promise<Kernel> {
    const definitions = makeShaderDataDefinitions(code)
    const slots = slotsOf(code)
    const layout = layoutOf(device, name, slots)
    const module = device.createShaderModule({ label: name, code })
    const pipeline = await device
      .createComputePipelineAsync({
        label: name,
        layout: device.createPipelineLayout({ label: name, bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: name },
      })
      .catch(async (cause: unknown) => {
        const { messages } = await module.getCompilationInfo()
        const said = messages.map(({ lineNum, message }) => `line ${lineNum}: ${message}`)
        throw new TritswapError(
          'webgpu',
          `Cannot compile the kernel ${name} on this device: ${said.join('; ')}`,
          {
            fields: { kernel: name, messages: said },
            cause,
          },
        )
      })
    return new Kernel(device, pipeline, layout, slots, definitions, code)
  }

  private constructor(
    device: GPUDevice,
    pipeline: GPUComputePipeline,
    layout: GPUBindGroupLayout,
    slots: readonly Slot[],
    definitions: ShaderDataDefinitions,
    code: string,
  ) {
    this.pipeline = pipeline
    this.groupSize = groupSizeOf(code)
    this.lanes = constantsIn(code).get('LANES') ?? 1
    const [[paramsName, params] = ['params', undefined]] = Object.entries(definitions.uniforms)
    this.paramsName = paramsName
    this.paramsBytes = params?.size ?? 0
    this.paramsType = params?.typeDefinition
    this.#writeParams = params && writerOf(params.typeDefinition)
    this.#device = device
    this.#layout = layout
    this.#slots = slots
    this.#definitions = definitions
  }

  /** Whether it takes a list of jobs: a dispatch says where in its buffer that is, in bytes. */
  get takesList(): boolean {
    return this.paramsName === LIST
  }

  /** Writes the uniform as the WGSL struct lays it out. */
  writeParams(values: Params, into: ArrayBuffer, offset: number): void {
    this.#writeParams?.(values, new DataView(into), offset)
  }

  /** Bytes of the storage variable `name`; of one element, if it is an array of any length. */
  storageBytes(name: string): number {
    const { size, typeDefinition } = this.#definitions.storages[name]
    return size || (typeDefinition as ArrayDefinition).elementType.size
  }

  /** The content of the storage array `name`, its structs laid out as the WGSL says. */
  packArray(name: string, items: readonly Params[]): ArrayBuffer {
    const { elementType } = this.#definitions.storages[name].typeDefinition as ArrayDefinition
    const packed = new ArrayBuffer(items.length * elementType.size)
    const write = writerOf(elementType)
    const view = new DataView(packed)
    for (const [i, item] of items.entries()) write(item, view, i * elementType.size)
    return packed
  }

  /** @param bindings - at least those that it has */
  bind(bindings: Bindings): GPUBindGroup {
    return this.#device.createBindGroup({
      label: this.pipeline.label,
      layout: this.#layout,
      entries: this.#slots.map(({ name, binding }) => ({ binding, resource: bindings[name] })),
    })
  }
}

const compiled = new WeakMap<GPUDevice, Map<string, Promise<Kernel>>>()

/**
 * The kernel of a WGSL file, compiled once for each device and variant of its code.
 * @param list - whether it takes a list of jobs
 */
export function kernelOf(gpu: Gpu, name: string, target?: TargetDtype, list = false): Promise<Kernel> {
  let kernels = compiled.get(gpu.device)
  if (kernels === undefined) {
    kernels = new Map()
    compiled.set(gpu.device, kernels)
  }
  const code = codeOf(gpu, name, { ...(target && TARGET_MODULES[target]), ...(list && LIST_MODULES) })
  let kernel = kernels.get(code)
  if (kernel === undefined) {
    kernel = Kernel.compile(gpu, name, code)
    kernel.catch(() => kernels.delete(code))
    kernels.set(code, kernel)
  }
  return kernel
}

/**
 * Kernels by name, each for the dtypes that the weights have: a base has one as a rule, and a software adapter compiles
 * a kernel for a tenth of a second.
 */
export async function targetKernels<const Name extends string>(
  gpu: Gpu,
  names: readonly Name[],
  dtypes: ReadonlySet<TargetDtype>,
  list = false,
): Promise<Record<Name, Record<TargetDtype, Kernel>>> {
  const compiled = names.map(async (name) => {
    const pairs = Array.from(
      dtypes,
      async (dtype) => [dtype, await kernelOf(gpu, name, dtype, list)] as const,
    )
    return [name, Object.fromEntries(await Promise.all(pairs))] as const
  })
  return Object.fromEntries(await Promise.all(compiled)) as Record<Name, Record<TargetDtype, Kernel>>
}
