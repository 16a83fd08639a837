import {
  type ArrayDefinition,
  makeShaderDataDefinitions,
  type ShaderDataDefinitions,
  setStructuredValues,
  setTypedValues,
} from 'webgpu-utils'
import { TritswapError } from '../errors.ts'
import type { Gpu } from './device.ts'
import { assemble, type ShaderSources, SOURCES } from './shaders.ts'

/** Values of a WGSL struct by field name. */
export interface Params {
  readonly [field: string]: number | readonly number[] | Params | readonly Params[]
}

/** What a kernel is bound to, by the names of its WGSL variables. */
export type Bindings = Readonly<Record<string, GPUBufferBinding>>

/** The weights that a kernel variant works on. */
export type TargetDtype = 'float32' | 'float16'

/** Modules that differ between the two: a branch on a constant is not free on every device. */
const TARGETS = {
  float32: { target: 'target_f32', journal: 'journal_f32', displaced: 'displaced_f32' },
  float16: { target: 'target_f16', journal: 'journal_f16', displaced: 'displaced_f16' },
} as const

/** Sizes of kernels where an invocation walks a block: see the modules. */
function walkers({ adapter: { software, architecture } }: Gpu): Record<string, string> {
  const size = !software ? 64 : architecture === 'swiftshader' ? 4 : 8
  return { walkers_of: `walkers_of_${size}` }
}

/** Invocations in a workgroup; a size may be the name of a constant. */
function groupSizeOf(code: string): number {
  const sizes = /@workgroup_size\(([\w, ]+)\)/.exec(code)?.[1].split(/, */) ?? []
  const value = (size: string) => Number(new RegExp(`const ${size} = (\\d+)u`).exec(code)?.[1] ?? size)
  return sizes.reduce((product, size) => product * value(size), 1)
}

/**
 * One compute pipeline. Bindings, struct layouts and workgroup size are read from its WGSL; its one uniform, if it
 * has one, is called `params`.
 */
export class Kernel {
  readonly name: string
  readonly pipeline: GPUComputePipeline
  /** Invocations in a workgroup. */
  readonly groupSize: number
  /** Bytes of `params`, 0 without. */
  readonly paramsBytes: number
  readonly #device: GPUDevice
  readonly #layout: GPUBindGroupLayout
  readonly #slots: ReadonlyMap<string, number>
  readonly #definitions: ShaderDataDefinitions

  static async create(
    gpu: Gpu,
    name: string,
    aliases: Readonly<Record<string, string>> = {},
    sources: ShaderSources = SOURCES,
  ): Promise<Kernel> {
    const { device } = gpu
    const code = assemble(name, { ...walkers(gpu), ...aliases }, sources)
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
    // Not `makeBindGroupLayoutDescriptors`: it overlooks variables that only a called function uses.
    const slots = new Map(
      Object.entries({ ...definitions.uniforms, ...definitions.storages }).map(([name, { binding }]) => [
        name,
        binding,
      ]),
    )
    return new Kernel(device, name, pipeline, slots, definitions, groupSizeOf(code))
  }

  private constructor(
    device: GPUDevice,
    name: string,
    pipeline: GPUComputePipeline,
    slots: ReadonlyMap<string, number>,
    definitions: ShaderDataDefinitions,
    groupSize: number,
  ) {
    this.name = name
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

  /** The content of the storage array `name`, its structs laid out as the WGSL says. */
  packArray(name: string, items: readonly Params[]): ArrayBuffer {
    const { elementType } = this.#definitions.storages[name].typeDefinition as ArrayDefinition
    const packed = new ArrayBuffer(items.length * elementType.size)
    for (const [i, item] of items.entries()) setTypedValues(elementType, item, packed, i * elementType.size)
    return packed
  }

  bind(bindings: Bindings): GPUBindGroup {
    return this.#device.createBindGroup({
      label: this.name,
      layout: this.#layout,
      entries: Array.from(this.#slots, ([name, binding]) => ({ binding, resource: bindings[name] })),
    })
  }
}

const compiled = new WeakMap<GPUDevice, Map<string, Promise<Kernel>>>()

/** The kernel of a WGSL file, compiled once for each device and variant. */
export function kernelOf(gpu: Gpu, name: string, target?: TargetDtype): Promise<Kernel> {
  let kernels = compiled.get(gpu.device)
  if (kernels === undefined) {
    kernels = new Map()
    compiled.set(gpu.device, kernels)
  }
  const key = `${name} ${target} ${gpu.adapter.software}`
  let kernel = kernels.get(key)
  if (kernel === undefined) {
    kernel = Kernel.create(gpu, name, target === undefined ? {} : TARGETS[target])
    kernel.catch(() => kernels.delete(key))
    kernels.set(key, kernel)
  }
  return kernel
}

/** Kernels by name, each for both dtypes of weights. */
export async function targetKernels<const Name extends string>(
  gpu: Gpu,
  names: readonly Name[],
): Promise<Record<Name, Record<TargetDtype, Kernel>>> {
  const pairs = names.map(async (name) => {
    const [float32, float16] = await Promise.all([
      kernelOf(gpu, name, 'float32'),
      kernelOf(gpu, name, 'float16'),
    ])
    return [name, { float32, float16 }] as const
  })
  return Object.fromEntries(await Promise.all(pairs)) as Record<Name, Record<TargetDtype, Kernel>>
}
