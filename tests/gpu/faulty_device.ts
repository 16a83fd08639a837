import type { Gpu } from '../../src/gpu/index.ts'

/** Calls that can fail, each by what a real device does, or by an exception. */
const FAULTS = {
  createBuffer: ['throw', 'validation', 'memory'],
  createBindGroup: ['throw', 'validation'],
  createQuerySet: ['throw', 'validation', 'memory'],
  writeBuffer: ['throw', 'validation'],
  submit: ['throw', 'validation'],
  popErrorScope: ['throw', 'validation'],
  mapAsync: ['throw'],
  onSubmittedWorkDone: ['throw'],
} as const

type Call = keyof typeof FAULTS
export type FaultKind = 'throw' | 'validation' | 'memory' | 'lost'

export interface Fault {
  /** Which of the counted calls. */
  n: number
  kind: FaultKind
}

export interface FaultyGpu {
  gpu: Gpu
  /** The calls since the last `arm`. */
  calls: Call[]
  /** Counts anew; the n-th call fails. */
  arm(fault?: Fault): void
}

/** All that can go wrong in a run that made these calls. */
export function faultsOf(calls: readonly Call[]): Fault[] {
  return calls.flatMap((call, n) => FAULTS[call].map((kind) => ({ n, kind })))
}

const thrown = () => new DOMException('injected', 'OperationError')

/** A device of which one call fails. Its objects are real ones, and so are the errors where a device can be made to. */
export function faultyGpu(gpu: Gpu): FaultyGpu {
  const real = gpu.device
  const faulty: FaultyGpu = {
    gpu,
    calls: [],
    arm(fault) {
      armed = fault
      faulty.calls = []
    },
  }
  let armed: Fault | undefined
  const scopes: { filter: GPUErrorFilter; injected?: GPUError }[] = []

  /** Counts a call, and says how it has to fail. */
  const faultIn = (call: Call): FaultKind | undefined => {
    const n = faulty.calls.push(call) - 1
    if (armed?.n !== n) return undefined
    if (armed.kind === 'lost') real.destroy()
    if (armed.kind === 'throw') throw thrown()
    return armed.kind
  }
  /** VRAM cannot be used up in a test: an invalid object, and the error of a full device in its scope. */
  const outOfMemory = <T>(makeInvalid: () => T): T => {
    real.pushErrorScope('validation')
    const invalid = makeInvalid()
    void real.popErrorScope()
    const scope = scopes.findLast(({ filter }) => filter === 'out-of-memory')
    if (scope) scope.injected ??= new GPUOutOfMemoryError('injected')
    return invalid
  }
  const fail = <T>(kind: FaultKind | undefined, make: () => T, makeInvalid: () => T): T =>
    kind === 'memory' ? outOfMemory(makeInvalid) : kind === 'validation' ? makeInvalid() : make()

  const queue = new Proxy(real.queue, {
    get(target, key) {
      if (key === 'submit')
        return (commands: GPUCommandBuffer[]) => {
          const kind = faultIn('submit')
          target.submit(kind === 'validation' ? [...commands, unusable(real)] : commands)
        }
      if (key === 'writeBuffer')
        return (...args: Parameters<GPUQueue['writeBuffer']>) => {
          if (faultIn('writeBuffer') === 'validation') args[1] = 2 ** 40
          target.writeBuffer(...args)
        }
      if (key === 'onSubmittedWorkDone')
        return async () => {
          faultIn('onSubmittedWorkDone')
          return target.onSubmittedWorkDone()
        }
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const overrides: Partial<Record<keyof GPUDevice, unknown>> = {
    queue,
    createBuffer(descriptor: GPUBufferDescriptor) {
      const buffer = fail(
        faultIn('createBuffer'),
        () => real.createBuffer(descriptor),
        () => real.createBuffer({ ...descriptor, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE }),
      )
      const map = buffer.mapAsync.bind(buffer)
      buffer.mapAsync = async (...args) => {
        faultIn('mapAsync')
        return map(...args)
      }
      return buffer
    },
    createBindGroup: (descriptor: GPUBindGroupDescriptor) =>
      fail(
        faultIn('createBindGroup'),
        () => real.createBindGroup(descriptor),
        () => real.createBindGroup({ ...descriptor, entries: [] }),
      ),
    createQuerySet: (descriptor: GPUQuerySetDescriptor) =>
      fail(
        faultIn('createQuerySet'),
        () => real.createQuerySet(descriptor),
        () => real.createQuerySet({ ...descriptor, count: 2 ** 20 }),
      ),
    pushErrorScope(filter: GPUErrorFilter) {
      scopes.push({ filter })
      real.pushErrorScope(filter)
    },
    async popErrorScope() {
      const popped = real.popErrorScope()
      const injected = scopes.pop()?.injected
      const kind = faultIn('popErrorScope')
      const error = await popped
      return kind === 'validation' ? new GPUValidationError('injected') : (injected ?? error)
    },
  }
  const device = new Proxy(real, {
    get(target, key) {
      if (key in overrides) return overrides[key as keyof GPUDevice]
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  faulty.gpu = { ...gpu, device }
  return faulty
}

/** Commands that every submission is refused for. */
function unusable(device: GPUDevice): GPUCommandBuffer {
  const buffer = device.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_DST })
  const encoder = device.createCommandEncoder()
  encoder.clearBuffer(buffer)
  const commands = encoder.finish()
  buffer.destroy()
  return commands
}
