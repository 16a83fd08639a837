/**
 * What is read of files that are no `.trit` file: their sizes, and for JSON how many brackets may be open at once and how
 * many values there may be, for a parsed value takes up to 450 times the memory of its text. `format/limits.ts` has those of
 * the `.trit` file; `docs/FORMAT.md` gives both lists.
 *
 * @module
 */
import type { JsonLimits } from './json.ts'

/** Room for more than ten thousand entries with long texts. */
export const MAX_REGISTRY_BYTES = 32 << 20
/** An entry has about 30 values. */
export const REGISTRY_JSON: JsonLimits = { depth: 16, values: 2 ** 20 }

/** A manifest nests two brackets and holds one name for each graph. */
export const MANIFEST_JSON: JsonLimits = { depth: 8, values: 4096 }

/** Of a model's configuration and tokenizer: a vocabulary of a million tokens with their merges holds about five million values. */
export const MODEL_JSON: JsonLimits = { depth: 64, values: 2 ** 23 }
/** The deepest models have some hundred layers; transformers.js makes a cache for each that the configuration counts. */
export const MAX_LAYERS = 4096

/** Of an adapter's configuration, or the index of a sharded checkpoint. */
export const MAX_CHECKPOINT_JSON_BYTES = 64 << 20
/** More than any configuration nests, and than the largest shard index holds. */
export const CHECKPOINT_JSON: JsonLimits = { depth: 32, values: 2 ** 20 }

/** The head of a safetensors file: the limit of the reference implementation. */
export const MAX_SAFETENSORS_HEAD_BYTES = 100_000_000

/** An answer of the hub's API lists at most a thousand files. */
export const MAX_HUB_ANSWER_BYTES = 32 << 20
export const HUB_JSON: JsonLimits = { depth: 16, values: 2 ** 20 }
/** Far above what the largest repositories list. */
export const MAX_HUB_FILES = 100_000
