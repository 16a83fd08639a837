/**
 * What crosses between the page and the engine worker: plain data and comlink proxies, never weight bytes.
 *
 * @module
 */
import type { ActiveSet, AdapterInfo } from '../model/expert_info.ts'

export type * from '../model/expert_info.ts'

export interface ModelInfo {
  name: string
  adapter: AdapterInfo
  /** Type of the weights in VRAM. */
  dtype: 'f32' | 'f16'
  /** Weights that live in our own buffers; a tied tensor counts once. */
  weights: number
  /** Longest sequence, prompt included, in tokens. */
  contextLength: number
  fingerprint?: string
}

/** One generated token. `text` may be empty where a character spans tokens; it then comes with a later one. */
export interface GeneratedToken extends ActiveSet {
  token: number
  text: string
  /** Since the token before it, or since the call. */
  ms: number
}

export interface GenerateOptions {
  maxNewTokens?: number
  /** 0 (the default) is greedy. */
  temperature?: number
  topK?: number
  /**
   * What a switch in mid-text does with the KV cache: `keep` goes on with what earlier experts wrote there (the
   * default: instant), `recompute` lets the new set read the whole context first, as a fresh call would.
   */
  kv?: 'keep' | 'recompute'
}

/** How well a text is predicted: sums over all windows, so that results of several calls can be added. */
export interface TextScore {
  bits: number
  bytes: number
  tokens: number
}
