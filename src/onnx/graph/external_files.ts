import { externalLocation } from '../proto/tensor_bytes.ts'
import type { OnnxGraph } from './onnx_graph.ts'

/** Data files that a graph needs beside itself. @throws {TritswapError} `input` */
export function externalFilesOf({ index }: OnnxGraph): string[] {
  return [...new Set(index.initializers.flatMap(({ tensor }) => externalLocation(tensor) ?? []))].sort()
}
