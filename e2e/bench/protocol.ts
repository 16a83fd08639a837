/**
 * What the runner and its page say to each other.
 *
 * @module
 */

export type Unit = 'ms' | 'tokens/s' | 'bytes' | 'count'

/** An expert file as the page gets it. */
export interface BenchExpert {
  id: string
  url: string
  bytes: number
  rootHash: string
  density: number
}

/** Where one graph input's part of a dense delta lies, in elements. */
export interface DeltaPart {
  input: string
  offset: number
  elements: number
}

/** LoRA factors, one after the other as f16: A [in, rank] and B [rank, out] of each input. */
export interface LoraFactor {
  input: string
  dims: readonly [number, number]
  /** In elements. */
  offset: number
}

/** Uncompressed models and deltas that the alternatives need; URLs are on the fast server. */
export interface PeerFiles {
  /** `fine-tuned` if real checkpoints were at hand, else made up from the experts: of the same size. */
  origin: 'fine-tuned' | 'decoded'
  /** Root of the model folders, with a slash at its end. */
  root: string
  /** Folders of plain ONNX models: the base and two fine-tunings of it. */
  base: string
  full: readonly [string, string]
  fullBytes: number
  /** f16 deltas in the layout of the graph inputs. */
  deltas: readonly [string, string]
  deltaBytes: number
  deltaParts: readonly DeltaPart[]
  /** Delta A as int8 with one scale for each tensor, gzipped; the scales follow `deltaParts`. */
  int8: string
  int8Bytes: number
  int8Scales: readonly number[]
  /** Folder of the plain graph with LoRA factors as inputs. */
  lora: string
  loraFactors: readonly LoraFactor[]
  loraWeights: readonly [string, string]
  loraBytes: number
  /** Folder of a 4-bit graph of the base, and a LoRA as ternary factors and as ternary terms; where there are such files. */
  quantized?: {
    folder: string
    lora: string
    terms: string
    /** Weights of the matrices that expert A changes. */
    matrixWeights: number
  }
}

/** What the opening problem asks for; paths are on all servers. */
export interface OpeningFiles {
  /** A LoRA of the base with its tensors in f16. */
  f16: Pick<BenchExpert, 'url' | 'bytes' | 'rootHash'>
  /** The same LoRA as ternary terms, and a fine-tuning, each in a registry of its own. */
  adapter: RegistryOfOne
  tuned: RegistryOfOne
}

export interface RegistryOfOne {
  registry: string
  /** Of the expert. */
  bytes: number
  /** Of registry and index. */
  listBytes: number
}

/** All that the page needs to know. */
export interface PageConfig {
  /** Folder of the prepared base, on the fast server. */
  model: string
  dtype: 'fp32' | 'fp16'
  ort: string
  /** A server that answers as fast as it can. */
  fast: string
  /** A server behind one line of limited rate and a delay. */
  line: string
  /** One of the same rate with the opening problem's delay. */
  slow: string
  prompt: string
  /** A and B have the density nearest to 5 %. */
  experts: readonly BenchExpert[]
  /** Files of A that differ in their label only: each is another file to every cache. By path on both servers. */
  copies: readonly BenchExpert[]
  peers: PeerFiles
  opening: OpeningFiles
  /** Weights of the synthetic stores. */
  sizes: readonly number[]
  densities: readonly number[]
  /** Weights of the store on which densities are tried. */
  densityWeights: number
  residents: readonly number[]
  newTokens: number
}

export interface PageCase {
  name: string
  unit: Unit
  samples: number[]
}

export interface GroupResult {
  cases: PageCase[]
  /** What no number says: reasons, exactness. */
  notes: Record<string, string | boolean>
  skipped: { name: string; reason: string }[]
}

export interface Progress {
  group: string
  stage: string
  /** First case of the bench at hand. */
  bench?: string
}
