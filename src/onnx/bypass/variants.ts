/**
 * Graphs with room for experts beside the weights: from one hoisted graph, variants with ternary sides, low-rank pairs,
 * deltas, scales and biases at some of its sites. Experts come in through graph inputs; a graph without any such input
 * is the hoisted graph itself.
 *
 * @module
 */
import type { HoistedInput } from '../../format/index.ts'
import type { OnnxGraph } from '../graph/onnx_graph.ts'
import { serializeModel } from '../proto/model.ts'
import { integersOf } from '../quantized/integer_records.ts'
import { type BypassInput, BypassInputs, type SiteBypass } from './bypass_inputs.ts'
import { BypassNodes } from './bypass_nodes.ts'
import { findSites, siteOf } from './find_sites.ts'
import type { Site, SiteTensors } from './site.ts'

/** A hoisted graph to make variants of. */
export interface BypassGraph {
  graph: OnnxGraph
  inputs: readonly HoistedInput[]
  tensors: SiteTensors
  /** `model_type` of the model's configuration, where it is known. */
  modelType?: string
}

export interface GraphVariant {
  bytes: Uint8Array<ArrayBuffer>
  inputs: BypassInput[]
}

/** The sites of a hoisted graph. @throws {TritswapError} `format`, `input` for a malformed graph */
export function sitesOf(source: BypassGraph): Site[] {
  return findSites(source.graph.main, { ...source, integers: integersOf(source.graph) }).map(siteOf)
}

/** A variant with bypasses at sites, by their keys. @throws {TritswapError} `format`, `input` for a malformed graph */
export function addBypass(source: BypassGraph, bypasses: ReadonlyMap<string, SiteBypass>): GraphVariant {
  const { graph } = source
  const model = graph.copy()
  const variantInputs = new BypassInputs(model)
  const nodes = new BypassNodes(model)
  for (const { occurrences, ...site } of findSites(model.graph, { ...source, integers: integersOf(graph) })) {
    const bypass = bypasses.get(site.key)
    if (bypass === undefined) continue
    const names = variantInputs.of(site, bypass)
    for (const occurrence of occurrences) nodes.add(site, occurrence, names)
  }
  return { bytes: serializeModel(model), inputs: variantInputs.all }
}
