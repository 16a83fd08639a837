import {
  type ArrayDefinition,
  makeShaderDataDefinitions,
  type ShaderDataDefinitions,
  setStructuredValues,
  setTypedValues,
} from 'webgpu-utils'
import { TritswapError } from '../errors.ts'
import type { Gpu } from './device.ts'
import { constantsIn } from './shader_constants.ts'
import { assemble, type ShaderSources, SOURCES } from './shaders.ts'
import { TARGET_MODULES, type TargetDtype } from './target.ts'

/** Values of a WGSL struct by field name. */
export interface Params {
  readonly [field: string]: number | readonly number[] | Params | readonly Params[]
}

/** What a kernel is bound to, by the names of its WGSL variables. */
export type Bindings = Readonly<Record<string, GPUBufferBinding>>

/** Which workgroups the kernels have in which an invocation walks a block; each module says why. */
function workgroupModule({ adapter: { software, architecture } }: Gpu): string {
  if (!software) return 'workgroup_64'
  return architecture === 'swiftshader' ? 'workgroup_4' : 'workgroup_8'
}

function codeOf(
  gpu: Gpu,
  name: string,
  aliases: Readonly<Record<string, string>> = {},
  sources: ShaderSources = SOURCES,
): string {
  return assemble(name, { workgroup: workgroupModule(gpu), ...aliases }, sources)
}

/** Invocations in a workgroup; a size may be the name of a constant. */
function groupSizeOf(code: string): number {
  const sizes = /@workgroup_size\(([\w, ]+)\)/.exec(code)?.[1].split(/, */) ?? []
  const constants = constantsIn(code)
  return sizes.reduce((product, size) => product * (constants.get(size) ?? Number(size)), 1)
}

/**
 * One compute pipeline. Bindings, struct layouts and workgroup size are read from its WGSL; its one uniform, if it
 * has one, is called `params`.
 */
export class Kernel {
  readonly pipeline: GPUComputePipeline
  /** Invocations in a workgroup. */
  readonly groupSize: number
  /** Bytes of `params`, 0 without. */
  readonly paramsBytes: number
  readonly #device: GPUDevice
  readonly #layout: GPUBindGroupLayout
  readonly #slots: ReadonlyMap<string, number>
  readonly #definitions: ShaderDataDefinitions

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
    const module = device.createShaderModule({ label: name, code })
    const pipeline = await device
      .createComputePipelineAsync({
        label: name,
        layout: 'auto',
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
    // `makeBindGroupLayoutDescriptors` would overlook variables that only a called function uses.
    const slots = new Map(
      Object.entries({ ...definitions.uniforms, ...definitions.storages }).map(([name, { binding }]) => [
        name,
        binding,
      ]),
    )
    return new Kernel(device, pipeline, slots, definitions, groupSizeOf(code))
  }

  private constructor(
    device: GPUDevice,
    pipeline: GPUComputePipeline,
    slots: ReadonlyMap<string, number>,
    definitions: ShaderDataDefinitions,
    groupSize: number,
  ) {
    this.pipeline = pipeline
    this.groupSize = groupSize
    this.paramsBytes = definitions.uniforms.params?.size ?? 0
    this.#device = device
    this.#layout = pipeline.getBindGroupLayout(0)
    this.#slots = slots
    this.#definitions = definitions
  }

  /** Writes `params` as the WGSL struct lays it out. */
  writeParams(values: Params, into: ArrayBuffer, offset: number): void {
    const { params } = this.#definitions.uniforms
    if (params !== undefined) setStructuredValues(params, values, into, offset)
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
    for (const [i, item] of items.entries()) setTypedValues(elementType, item, packed, i * elementType.size)
    return packed
  }

  bind(bindings: Bindings): GPUBindGroup {
    return this.#device.createBindGroup({
      label: this.pipeline.label,
      layout: this.#layout,
      entries: Array.from(this.#slots, ([name, binding]) => ({ binding, resource: bindings[name] })),
    })
  }
}

const compiled = new WeakMap<GPUDevice, Map<string, Promise<Kernel>>>()

/** The kernel of a WGSL file, compiled once for each device and variant of its code. */
export function kernelOf(gpu: Gpu, name: string, target?: TargetDtype): Promise<Kernel> {
  let kernels = compiled.get(gpu.device)
  if (kernels === undefined) {
    kernels = new Map()
    compiled.set(gpu.device, kernels)
  }
  const code = codeOf(gpu, name, target && TARGET_MODULES[target])
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
): Promise<Record<Name, Record<TargetDtype, Kernel>>> {
  const compiled = names.map(async (name) => {
    const pairs = Array.from(dtypes, async (dtype) => [dtype, await kernelOf(gpu, name, dtype)] as const)
    return [name, Object.fromEntries(await Promise.all(pairs))] as const
  })
  return Object.fromEntries(await Promise.all(compiled)) as Record<Name, Record<TargetDtype, Kernel>>
}
