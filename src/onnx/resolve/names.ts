/**
 * Names: from what exporters call initializers and nodes to the dotted parameter names of checkpoints.
 * docs/NAMES.md lists the rules with examples.
 *
 * @module
 */

import type { NodeProto } from '../proto/onnx_pb.ts'

/** A parameter of the model itself and of no module in it: `logit_scale`. Names that exporters make up have numbers. */
const TOP_LEVEL = /^[a-z]+(_[a-z]+)+$/

/**
 * The parameter that an initializer's own name states, or undefined for anonymous ones (`onnx::MatMul_733`,
 * `/model/Constant_3_output_0`, `val_12`). `transposed` when the name says that the exporter transposed it.
 */
export function parameterOfInitializer(name: string): { name: string; transposed: boolean } | undefined {
  const plain = name.replace(/_merged_\d+$/, '')
  if (plain.includes('::') || plain.includes('/')) return undefined
  if (!plain.includes('.') && !TOP_LEVEL.test(plain)) return undefined
  const stripped = plain.replace(/\.(MatMul|Add)\.(weight|bias)$/, '.$2')
  return { name: checkpointName(stripped), transposed: /\.MatMul\.weight$/.test(plain) }
}

/** Metadata in which torch's newer exporter, whose nodes have numbers for names, lists the modules around a node, outermost first. */
const SCOPES = 'pkg.torch.onnx.name_scopes'

/**
 * The module that a node belongs to: `/model/layers.0/self_attn/q_proj/MatMul_Q4` is part of
 * `model.layers.0.self_attn.q_proj`. Undefined for nodes outside any module (`Transpose_540`).
 */
export function moduleOfNode({
  name,
  metadataProps,
}: Pick<NodeProto, 'name' | 'metadataProps'>): string | undefined {
  const scopes = metadataProps.find(({ key }) => key === SCOPES)?.value.match(/'[^']*'/g)
  // The last one is the operation.
  if (scopes !== undefined && scopes !== null && scopes.length > 1)
    return scopes.at(-2)!.slice(1, -1) || undefined
  const parts = name.replace(/^\//, '').split('/')
  parts.pop()
  if (parts.length === 0) return undefined
  // torch writes children of a Sequential as `head/head.0`, with the name of the list twice.
  const path = parts.filter((part, i) => !parts[i + 1]?.startsWith(`${part}.`))
  return checkpointName(path.join('.'))
}

/** What a node of a module is called: {@link moduleOfNode} the other way round. */
export function nodeNameIn(module: string, opType: string): string {
  return `/${module.replaceAll('.', '/')}/${opType}`.replace(/\/(\d+)(?=\/)/g, '.$1')
}

/** The onnxruntime-genai builder renames three things. */
function checkpointName(path: string): string {
  return path
    .replace(/(layers\.\d+)\.attn\.((q|k|v|qkv|o)_proj|[qk]_norm|sinks)\b/, '$1.self_attn.$2')
    .replace(/([qk]_norm)\.layernorm\b/, '$1')
    .replace(/layers\.\d+\.final_norm_layernorm/, 'norm')
}

/** Trailing dotted components that two names share. */
export function sharedSuffix(a: string, b: string): number {
  const left = a.split('.')
  const right = b.split('.')
  let count = 0
  while (
    count < left.length &&
    count < right.length &&
    left[left.length - 1 - count] === right[right.length - 1 - count]
  ) {
    count++
  }
  return count
}

/**
 * The one of `names` that `target` means: itself, or the only name that differs from it by leading components
 * alone (exporters drop `model.` or `encoder.`; peft prepends `base_model.model.`), or by `language_model`, which models
 * of text and images have around their text model. Undefined when there is none, or more than one of the same length.
 */
export function matchName(target: string, names: Iterable<string>): string | undefined {
  return nameMatcher(names)(target)
}

/** {@link matchName} for many targets: what one costs does not depend on how many names there are. */
export function nameMatcher(names: Iterable<string>): (target: string) => string | undefined {
  const whole = new Set(names)
  /** By each ending of theirs from a dot on, the name that has it; undefined for several. */
  const byEnding = new Map<string, string | undefined>()
  let longest = 0
  for (const name of whole) {
    longest = Math.max(longest, name.length)
    for (const ending of endingsOf(name)) byEnding.set(ending, byEnding.has(ending) ? undefined : name)
  }
  const matchLeading = (target: string) => {
    if (whole.has(target)) return target
    // One component says too little: every model has a `weight`.
    if (!target.includes('.')) return undefined
    if (byEnding.has(target)) return byEnding.get(target)
    for (const ending of endingsOf(target, longest))
      if (ending.includes('.') && whole.has(ending)) return ending
    return undefined
  }
  return (target) => {
    const textModel = target.replaceAll(/(^|\.)language_model\./g, '$1')
    return matchLeading(target) ?? (textModel === target ? undefined : matchLeading(textModel))
  }
}

/** What follows each dot of a name, the longest first, up to a length. */
function* endingsOf(name: string, longest = Number.POSITIVE_INFINITY): Iterable<string> {
  for (let at = name.indexOf('.'); at >= 0; at = name.indexOf('.', at + 1))
    if (name.length - at - 1 <= longest) yield name.slice(at + 1)
}
