import { shaderConstants } from './shader_constants.ts'

/** How kernels are made for a class of adapters. Everything that depends on the class is here. */
export interface Tuning {
  /** Which workgroups the kernels have in which an invocation walks a block; each module says why. */
  workgroup: 'workgroup_4' | 'workgroup_8' | 'workgroup_64'
  /** How codes are taken apart; each module says why. */
  codes: 'codes' | 'codes_integer'
  /** How many invocations share a block, each from an entry point of its own; each module says why. */
  lanes: 'lanes_1' | 'lanes_8'
  /**
   * Buffers of weights that a merge binds at once; 1 where each tensor has a dispatch of its own. What a GPU pays for is
   * the number of dispatches. A CPU that plays GPU runs both sides of the branches that choose between the buffers.
   */
  slots: number
}

/** What of a GPU decides. */
interface Tunable {
  readonly adapter: { readonly software: boolean; readonly architecture: string }
  readonly device: Pick<GPUDevice, 'limits'>
  /** Takes the place of what the class of the adapter suggests. */
  readonly tuning?: Partial<Tuning>
}

/** Storage buffers of a merge beside the weights: the arena, and a journal on each side. */
const OTHER_BUFFERS = 3
/** More are of no use: a list has no room for more jobs. */
const MAX_SLOTS = 32

/** The tuning for an adapter, which is that of `gpu.tuning` where a test or a benchmark chooses. */
export function tuningOf({ adapter: { software, architecture }, device, tuning }: Tunable): Tuning {
  const slots = Math.min(MAX_SLOTS, device.limits.maxStorageBuffersPerShaderStage - OTHER_BUFFERS)
  const chosen: Tuning = software
    ? {
        workgroup: architecture === 'swiftshader' ? 'workgroup_4' : 'workgroup_8',
        codes: 'codes',
        lanes: 'lanes_1',
        slots: 1,
      }
    : { workgroup: 'workgroup_64', codes: 'codes_integer', lanes: 'lanes_8', slots: Math.max(1, slots) }
  return { ...chosen, ...tuning }
}

/** What a tuning's way to share blocks comes to, in numbers that its WGSL module has. */
export function sharingOf(gpu: Tunable): { lanes: number; indexWords: number } {
  const { LANES, INDEX_WORDS } = shaderConstants(tuningOf(gpu).lanes, ['LANES', 'INDEX_WORDS'])
  return { lanes: LANES, indexWords: INDEX_WORDS }
}
