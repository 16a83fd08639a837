/**
 * What a reader accepts. Every number is checked before anything is allocated for it, so a hostile file costs a
 * small multiple of the bytes that are really there, plus at most {@link MAX_TABLE_BYTES} of inflated table.
 * `docs/FORMAT.md` gives the same list, and that of other files in `source/limits.ts`.
 *
 * @module
 */

/** First four bytes of a file: "TRIT". */
export const MAGIC = 0x54495254
export const VERSION = 1
/** Bytes before the table. */
export const PREFIX_BYTES = 32

/** A table of 65,536 tensors with long names stays under this; a deflate bomb does not. */
export const MAX_TABLE_BYTES = 16 << 20
/** The most regular tables (a mixture of experts, all dense) deflate to a 46th; parsed, a table takes 20 times its text. */
export const MAX_TABLE_RATIO = 128
/** Up to here a table may inflate whatever its ratio. */
export const SMALL_TABLE_BYTES = 1 << 20
/** Bindings nest ten brackets; a table of the largest models has about two million values. */
export const MAX_TABLE_JSON = { depth: 16, values: 1 << 22 }
/** As many tensors as the largest mixture-of-experts checkpoints have, and some more. */
export const MAX_TENSORS = 65_536
/** Longest name in use is ~120 characters. */
export const MAX_NAME_LENGTH = 512
/** Longest free text (description, licence, prompt). */
export const MAX_TEXT_LENGTH = 4096
/** Tokens of an invocation: a line of a chat template takes a dozen. */
export const MAX_INVOCATION = 256
/** Virtual tokens of an expert: each costs every prompt a token of the context. */
export const MAX_VIRTUAL_TOKENS = 1024
/** Source files that an expert names; the largest sharded checkpoints have about 200. */
export const MAX_SOURCES = 1024
/** Graphs that a base feeds: a decoder or two, an encoder, a vision tower … */
export const MAX_GRAPHS = 64
/** Tensors that one graph input is made of: the fused experts of a mixture. Pairs of them are compared. */
export const MAX_PARTS = 1024
/**
 * Rank that a LoRA pair may have whatever its factors. Above it, each rank costs a pass over the target and needs what
 * makes it worth one: a row and a column of the target, and an entry in either factor.
 */
export const MAX_FREE_RANK = 256
/** Terms of a tensor: each costs a pass over the target, and a five-byte section can have a target of 2³⁰ weights. */
export const MAX_TERMS = 256
/** ONNX and PyTorch weights have at most five dimensions. */
export const MAX_RANK = 8
/** Flat indices and bit offsets are u32 on the GPU. */
export const MAX_TENSOR_WEIGHTS = 2 ** 30
/** Bit offsets inside one tensor are u32. */
export const MAX_STREAM_BITS = 2 ** 32 - 64
/**
 * Weights that a file may be expanded to for each of its bytes, and in any case: 1 in 6,000 kept is sparser than any
 * expert measured, and 256 MiB of f32 do no harm.
 */
export const MAX_EXPANSION = 2 ** 12
export const FREE_WEIGHTS = 2 ** 26
/** A base of a terabyte is a mistake; sizes stay exact in a double far beyond it. */
export const MAX_PAYLOAD_BYTES = 2 ** 40

/** Chunks of 64 KiB to 1 MiB: experts want the small end (resume), bases the large one (fewer hashes). */
export const MIN_CHUNK_LOG2 = 16
export const MAX_CHUNK_LOG2 = 20
/** 32 MiB of hashes: a payload of {@link MAX_PAYLOAD_BYTES} in the largest chunks, 64 GiB in the smallest. */
export const MAX_CHUNKS = 2 ** 20

/** Weights that one restart of the code covers. Gaps are shorter, so the Golomb parameter is at most this too. */
export const BLOCK_WEIGHTS = 4096
/** Bits that store one block length: no block is longer than 4096 entries of 2 + 12 bits (57,344). */
export const MAX_LENGTH_BITS = 16

/** Weights of a quantization block: whole words even at 2 bits, and what onnxruntime takes. */
export const MIN_BLOCK_SIZE = 16
/** Matrices quantized row by row have one quantization block a row; more than this is padding. */
export const MAX_BLOCK_SIZE = 2 ** 16

/** Values of a sketch for each target. */
export const SKETCH_VALUES = 8
