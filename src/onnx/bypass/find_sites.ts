import type { HoistedInput } from '../../format/index.ts'
import { type GraphIndex, indexGraph, type Reader } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'
import type { GraphProto } from '../proto/onnx_pb.ts'
import type { IntegerSite } from '../quantized/integer_site.ts'
import { moduleOfNode } from '../resolve/names.ts'
import { cacheSites } from './cache_sites.ts'
import { integerOccurrence, integerWeight } from './integer_sites.ts'
import type { FoundSite, Site, SiteOccurrence, SiteTensors } from './site.ts'
import { type BiasedOccurrence, BiasFinder, occurrenceAt } from './site_bias.ts'
import { type SiteWeight, weightAt } from './site_weight.ts'

/** A weight of a graph with one of its products. */
interface Found extends BiasedOccurrence {
  weight: SiteWeight
}

/** What is known of a hoisted graph. */
export interface SiteSource {
  inputs: readonly HoistedInput[]
  /** Those of the container, by name. */
  tensors: SiteTensors
  /** The weights that stay integers in the graph. */
  integers?: readonly IntegerSite[]
  modelType?: string
}

/** @param main - a hoisted graph */
export function findSites(
  main: GraphProto,
  { inputs, tensors, integers = [], modelType = '' }: SiteSource,
): FoundSite[] {
  const index = indexGraph(main)
  const biases = new BiasFinder(index, inputs, tensors)
  const found = (weight: SiteWeight, occurrence: SiteOccurrence): Found => ({
    weight,
    ...biases.withBias(occurrence, weight.outputs),
    ...(weight.kind === 'embedding' &&
      SCALED_LOOKUPS.test(modelType) && { occurrence: withScale(index, occurrence) }),
  })
  const products = groupByKey(main, [
    ...inputs.flatMap((input) =>
      productsWith(index, main, input, tensors).map(({ weight, reader }) =>
        found(weight, occurrenceAt(reader)),
      ),
    ),
    ...integers.flatMap((site) =>
      index.graphs.flatMap((graph) => {
        const occurrence = integerOccurrence(graph, site, index.graphs)
        return occurrence === undefined ? [] : [found(integerWeight(site), occurrence)]
      }),
    ),
  ])
  return [...products, ...cacheSites(main)]
}

/** All products with a hoisted input; none where something else reads it, as a bypass would be half of a change then. */
function productsWith(
  index: GraphIndex,
  main: GraphProto,
  input: HoistedInput,
  tensors: SiteTensors,
): { weight: SiteWeight; reader: Reader }[] {
  if (input.raw !== undefined && input.raw !== 'weights') return []
  const readers = readersBehindViews(index, main, input.name)
  const products = readers.flatMap(({ reader, isTransposed }) => {
    const weight = weightAt(reader, isTransposed, input, tensors)
    return weight === undefined ? [] : [{ weight, reader }]
  })
  return products.length === readers.length ? products : []
}

/** Readers of a hoisted input, through nodes that transpose or reshape it. */
function readersBehindViews(
  index: GraphIndex,
  graph: GraphProto,
  value: string,
  isTransposed = false,
): { reader: Reader; isTransposed: boolean }[] {
  return index.readersOf(graph, value).flatMap((reader) => {
    const { node, position } = reader
    if (operatorOf(node).view !== 'order' || position !== 0) return [{ reader, isTransposed }]
    const transposed = node.opType === 'Transpose' ? !isTransposed : isTransposed
    return readersBehindViews(index, reader.graph, node.output[0], transposed)
  })
}

function groupByKey(main: GraphProto, all: readonly Found[]): FoundSite[] {
  const byKey = new Map<string, Found[]>()
  for (const found of all) byKey.set(found.weight.key, [...(byKey.get(found.weight.key) ?? []), found])
  return Array.from(byKey.values(), (group): FoundSite => {
    const [{ weight, bias }] = group
    const occurrences = group.map(({ occurrence }) => occurrence)
    const agree = group.every((other) => JSON.stringify(other.bias) === JSON.stringify(bias))
    return {
      ...weight,
      readsPrompt: weight.kind === 'embedding' && occurrences.every((each) => readsPrompt(main, each)),
      moduleNames: [...new Set(occurrences.flatMap(({ node }) => moduleOfNode(node) ?? []))],
      bias: agree ? bias : [],
      hasFixedBias: group.some((other) => other.hasFixedBias),
      occurrences,
    }
  })
}

/**
 * Types of models whose embedding is a module that scales what it looks up (transformers' ScaledWordEmbedding). Rows in place of the
 * weight's come after such a module in peft; others scale all that the model is given (gemma, gemma2).
 */
const SCALED_LOOKUPS =
  /^(gemma3n?(_text)?|bart|bigbird_pegasus|biogpt|blenderbot|m2m_100|mbart|nllb-moe|pegasus_x|plbart|seamless_m4t.*|trocr|xglm)$/

/** A lookup with the scale that follows it, unless the exporter has scaled the weight. */
function withScale(index: GraphIndex, occurrence: SiteOccurrence): SiteOccurrence {
  const { graph, output } = occurrence
  const readers = index.readersOf(graph, output).filter(({ node }) => node.opType !== 'Shape')
  const [scale] = readers
  if (readers.length !== 1 || scale.node.opType !== 'Mul') return occurrence
  return { ...occurrence, scaled: { output: scale.node.output[0], maker: scale.node } }
}

/** Nodes whose values are those of their first input, in another type or order. */
const VIEWS = ['Cast', 'Identity', 'Reshape', 'Squeeze', 'Unsqueeze', 'Flatten']

/** Whether what is looked up are the ids that the graph is given. */
function readsPrompt(main: GraphProto, { input, graph }: SiteOccurrence): boolean {
  let value = input
  for (let step = 0; step <= VIEWS.length && value !== PROMPT; step++) {
    const maker = [...graph.node, ...main.node].find(({ output }) => output.includes(value))
    if (maker === undefined || !VIEWS.includes(maker.opType)) return false
    value = maker.input[0]
  }
  return value === PROMPT
}

/** The graph input with the ids of a prompt. */
const PROMPT = 'input_ids'

/** A site without what only the parsed graph needs. */
export function siteOf({ occurrences: _, ...site }: FoundSite): Site {
  return site
}
