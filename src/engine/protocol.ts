/**
 * What crosses between the page and the engine worker: plain data and comlink proxies, never weight bytes.
 *
 * @module
 */
import type { ActiveSet, AdapterInfo } from '../model/expert_info.ts'
import type { GenerationSettings } from '../source/generation_settings.ts'
import type { ResponseFormat } from './response_format.ts'

export type * from '../model/expert_info.ts'
export type { GenerationSettings } from '../source/generation_settings.ts'
export type { JsonSchema, ResponseFormat } from './response_format.ts'

export interface ModelInfo {
  name: string
  adapter: AdapterInfo
  /** Type of the weights in VRAM. */
  dtype: 'f32' | 'f16'
  /** Weights that live in our own buffers; a tied tensor counts once. */
  weights: number
  /** Longest sequence, prompt included, in tokens. */
  contextLength: number
  /** Whether its tokenizer has a chat template, without which it takes no messages. */
  chat: boolean
  fingerprint?: string
}

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant'
  content: string
}

/** One generated token. */
export interface GeneratedToken extends ActiveSet {
  token: number
  /**
   * The text that it settles. Empty where a character spans tokens or a stop string may be under way; the text then comes
   * with a later token, at the latest with the last one.
   */
  text: string
  /** Since the token before it, or since the call. */
  ms: number
  /** Tokens that the forward pass read, with the experts named here: those of the prompt at first, then one at a time. */
  read: number
  /** Parts of the prompt that others had read right before it: what comes before the invocation of an activated LoRA. */
  before?: readonly TokenRun[]
}

/** Consecutive tokens that one set of experts read. */
export interface TokenRun extends ActiveSet {
  tokens: number
}

/**
 * Settings that are left out are those of the expert in use (its registry entry first, then its file), then those of the
 * base's `generation_config.json`; of several experts the one with the largest weight says.
 */
export interface GenerateOptions extends GenerationSettings {
  /** Draws the same tokens again: an integer from 0 on. Without it, each call draws others. */
  seed?: number
  /** What becomes of a prompt that is too long: its start or its end is cut. An error by default. */
  truncate?: TruncatedEnd
  /**
   * The system message of a chat that has none, in place of the expert's own; an empty text leaves it to the base's
   * template.
   */
  system?: string
  /**
   * What a switch does with the KV cache, in mid-text or between turns: `keep` goes on with what earlier experts wrote
   * there (the default: instant), `recompute` lets the new set read the whole context first, as a fresh call would.
   */
  kv?: 'keep' | 'recompute'
  /** What the answer has to be: text by default. */
  responseFormat?: ResponseFormat
}

export type TruncatedEnd = 'start' | 'end'

/** A chat that ends with the answer that is wanted, or a text. */
export type ScoredExample = readonly ChatMessage[] | string

/** What a generation came to. */
export interface GenerationResult {
  /** All text that was generated. */
  text: string
  /** `stop`: at an end token or a stop string; `length`: at `maxNewTokens` or the end of the context. */
  finishReason: 'stop' | 'length' | 'aborted'
  /** `tokensPerSecond` leaves out the first token, before which the prompt is read. */
  usage: { promptTokens: number; newTokens: number; tokensPerSecond: number }
  /** What was cut off the prompt. */
  truncated?: { end: TruncatedEnd; tokens: number }
}

/** A prompt as the model reads it. */
export interface EncodedPrompt {
  ids: number[]
  truncated?: GenerationResult['truncated']
  /** Of an answer that goes on: its text so far, without characters that wait for more tokens. */
  answer?: string
}

/** The next turn of a conversation, or more of its last answer. */
export interface TurnRequest {
  /** Names the KV cache that the engine keeps between turns. */
  conversation: string
  /** What the model has read and written so far. */
  context: readonly number[]
  /** All messages, of which the context holds all but the last; none for more of the last answer. */
  messages: readonly ChatMessage[]
  /** Tokens at the end of the context that are the answer that goes on. */
  answer: number
}

/** What a generation starts from: a text, messages, or a turn of a conversation. */
export type Prompt = string | readonly ChatMessage[] | TurnRequest

/** How well a text is predicted: sums over all windows, so that results of several calls can be added. */
export interface TextScore {
  bits: number
  bytes: number
  tokens: number
}
