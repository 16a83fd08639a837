/**
 * Projections of the same features that are one weight in some checkpoints and several in others, whichever way a graph
 * has them.
 *
 * @module
 */
import type { Checkpoint } from './checkpoint.ts'
import { matchName } from './names.ts'

/** The parts of each joined projection, in the order of its outputs. */
const PARTS = {
  qkv_proj: ['q_proj', 'k_proj', 'v_proj'],
  gate_up_proj: ['gate_proj', 'up_proj'],
} as const

/** Types of models (`model_type` of config.json) whose checkpoints have the joined weight. */
const JOINED: Readonly<Record<keyof typeof PARTS, RegExp>> = {
  qkv_proj: /^(phi3|phi3_v|phi4mm|phi4_multimodal)$/,
  gate_up_proj: /^(phi3|phi3_v|phi4mm|phi4_multimodal|glm|glm4)$/,
}

interface JoinedProjection {
  prefix: string
  module: keyof typeof PARTS
  /** `weight` or `bias`. */
  kind: string
}

function joinedProjection(parameter: string): JoinedProjection | undefined {
  const match = /^(.*\.)?(qkv_proj|gate_up_proj)\.(weight|bias)$/.exec(parameter)
  if (match === null) return undefined
  const [, prefix = '', module, kind] = match
  return { prefix, module: module as keyof typeof PARTS, kind }
}

/** Names of the parts of a joined parameter, e.g. `…self_attn.qkv_proj.weight` → q, k and v. */
export function partsOfJoined(parameter: string): string[] | undefined {
  const found = joinedProjection(parameter)
  return found && PARTS[found.module].map((part) => `${found.prefix}${part}.${found.kind}`)
}

/** The parts of a joined parameter where the checkpoint, which is not at hand, has them apart. */
export function partsWithoutCheckpoint(parameter: string, modelType: string): string[] | undefined {
  // Exporters join q, k and v of any model; gate and up are one in a graph only where they are in the checkpoint.
  const isOne = isJoined(parameter, { modelType }) ?? joinedProjection(parameter)?.module === 'gate_up_proj'
  return isOne ? undefined : partsOfJoined(parameter)
}

/** The joined parameter that a module may be a part of, e.g. `…mlp.up_proj` → `…mlp.gate_up_proj.weight`. */
export function joinedWeightOf(module: string): string | undefined {
  const [, prefix = '', own] = /^(.*\.)?([^.]+)$/.exec(module) ?? []
  const joined = Object.entries(PARTS).find(([, parts]) => (parts as readonly string[]).includes(own))
  return joined && `${prefix}${joined[0]}.weight`
}

/** Whether a joined parameter is one tensor in the checkpoint; undefined where nothing tells. */
export function isJoined(
  parameter: string,
  { checkpoint, modelType = '' }: { checkpoint?: Checkpoint; modelType?: string },
): boolean | undefined {
  const found = joinedProjection(parameter)
  if (found === undefined) return undefined
  if (checkpoint !== undefined) return matchName(parameter, checkpoint.tensors.keys()) !== undefined
  return modelType === '' ? undefined : JOINED[found.module].test(modelType)
}
