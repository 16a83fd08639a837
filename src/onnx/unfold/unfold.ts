/**
 * Undoes what an exporter folded away, with the checkpoint at hand: a weight that is in no checkpoint, because others were multiplied
 * into it or it was looked up in advance, becomes the tensors that it was made of and the operators that make it. The graph
 * computes what it did, and experts reach every tensor by its own name.
 *
 * @module
 */
import { indexGraph } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'
import type { GraphProto, ModelProto, NodeProto, TensorProto } from '../proto/onnx_pb.ts'
import type { ExternalFiles } from '../proto/tensor_bytes.ts'
import { countOf, floatType } from '../proto/tensors.ts'
import type { Checkpoint } from '../resolve/checkpoint.ts'
import { nodeNameIn } from '../resolve/names.ts'
import { unfoldBatchNorm } from './batch_norms.ts'
import { CheckpointInitializers } from './checkpoint_initializers.ts'
import { CheckpointValues, type FoldedGraph } from './folded_graph.ts'
import { unfoldLookup } from './tables.ts'
import { unfoldWeightNorm } from './weight_norms.ts'

/** Fewer values are constants of a formula. */
const MIN_VALUES = 4

/** A graph to be rewritten. */
interface Rewritable {
  model: ModelProto
  main: GraphProto
  external: ExternalFiles
}

/**
 * Rewrites a graph in place.
 * @param known - initializers that hold tensors of the checkpoint as they are
 * @returns where the data of its initializers lies; undefined where nothing was folded
 */
export async function unfold(
  { model, main, external }: Rewritable,
  known: ReadonlySet<TensorProto>,
  checkpoint: Checkpoint,
  isWanted: (tensor: string) => boolean,
): Promise<ExternalFiles | undefined> {
  const initializers = new CheckpointInitializers(main, checkpoint, external)
  const version = Number(
    model.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1,
  )
  const graph: FoldedGraph = {
    main,
    version,
    initializers,
    values: new CheckpointValues(checkpoint),
    nodeName: nodeNames(main),
    isWanted,
  }
  const index = indexGraph(main)
  const seen = new Set<NodeProto>()
  let count = 0
  for (const { tensor, readers } of index.initializers) {
    if (known.has(tensor) || floatType(tensor) === undefined || countOf(tensor) < MIN_VALUES) continue
    for (const { node, position, graph: owner } of readers) {
      if (owner !== main || seen.has(node)) continue
      const isOf =
        (operatorOf(node).absorbsNorm === true && (await unfoldBatchNorm(graph, node))) ||
        (await unfoldWeightNorm(graph, node, position)) ||
        (await unfoldLookup(graph, node, position))
      if (!isOf) continue
      seen.add(node)
      count++
    }
  }
  if (count === 0) return undefined
  dropUnread(main)
  return initializers.external
}

function nodeNames(main: GraphProto): FoldedGraph['nodeName'] {
  const taken = new Set(indexGraph(main).graphs.flatMap(({ node }) => node.map(({ name }) => name)))
  return (module, opType) => {
    const own = nodeNameIn(module, opType)
    let name = own
    for (let n = 1; taken.has(name); n++) name = `${own}_${n}`
    taken.add(name)
    return name
  }
}

/** Removes initializers that nothing reads any more. */
function dropUnread(main: GraphProto): void {
  const { readersOf } = indexGraph(main)
  const results = new Set(main.output.map(({ name }) => name))
  const gone = new Set(
    main.initializer
      .map(({ name }) => name)
      .filter((name) => !results.has(name) && readersOf(main, name).length === 0),
  )
  main.initializer = main.initializer.filter(({ name }) => !gone.has(name))
  main.input = main.input.filter(({ name }) => !gone.has(name))
}
