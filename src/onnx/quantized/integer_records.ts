/**
 * The sites of integer weights as a hoisted graph keeps them: JSON in the metadata of its file.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { array, integer, object, oneOf, shapeOf, text } from '../../format/fields.ts'
import { MAX_PARTS, MAX_RANK, MAX_TENSOR_WEIGHTS, SKETCH_VALUES } from '../../format/index.ts'
import type { OnnxGraph } from '../graph/onnx_graph.ts'
import { type ModelProto, StringStringEntryProtoSchema } from '../proto/onnx_pb.ts'
import type { IntegerSite } from './integer_site.ts'

const METADATA = 'tritswap.integers'
const MAX_SITES = 65_536

/** Writes sites into a graph. */
export function recordIntegers(model: ModelProto, sites: readonly IntegerSite[]): void {
  if (sites.length === 0) return
  model.metadataProps.push(
    create(StringStringEntryProtoSchema, { key: METADATA, value: JSON.stringify(sites.map(recordOf)) }),
  )
}

/** A site as prepared graphs have it: they say `turned` for `transposed`. */
function recordOf(site: IntegerSite) {
  return { ...site, parts: site.parts.map(({ transposed: turned, ...part }) => ({ ...part, turned })) }
}

/** The sites that {@link recordIntegers} wrote into a graph. @throws {TritswapError} `format`, `input` */
export function integersOf({ model }: OnnxGraph): IntegerSite[] {
  const value = model.metadataProps.find(({ key }) => key === METADATA)?.value
  if (value === undefined) return []
  return array(JSON.parse(value), METADATA, MAX_SITES).map((item, i) => {
    const at = `${METADATA}[${i}]`
    const site = object(item, at)
    return {
      output: text(site.output, `${at}.output`),
      kind: oneOf(site.kind, `${at}.kind`, ['linear', 'embedding', 'conv'] as const),
      weight: text(site.weight, `${at}.weight`),
      dims: shapeOf(site.dims, `${at}.dims`, MAX_RANK, MAX_TENSOR_WEIGHTS),
      parts: array(site.parts, `${at}.parts`, MAX_PARTS).map((entry, p) => {
        const part = object(entry, `${at}.parts[${p}]`)
        return {
          target: text(part.target, `${at}.target`),
          shape: shapeOf(part.shape, `${at}.shape`, MAX_RANK, MAX_TENSOR_WEIGHTS),
          firstOutput: integer(part.firstOutput, `${at}.firstOutput`, 0, MAX_TENSOR_WEIGHTS),
          transposed: part.turned === true,
          sketch: array(part.sketch, `${at}.sketch`, SKETCH_VALUES).map(Number),
        }
      }),
    }
  })
}
