// Weights as halves of 32-bit words. The two halves of a word may belong to different invocations, so a store flips the
// differing bits of its own half: no invocation writes the other half.
#import half
#import weights_f16

fn load(element: u32) -> u32 { return (word_at(element >> 1u) >> ((element & 1u) << 4u)) & 0xffffu; }

fn store(element: u32, current: u32, raw: u32) {
  flip_word(element >> 1u, (current ^ raw) << ((element & 1u) << 4u));
}

/// `store` without the current weight.
fn overwrite(element: u32, raw: u32) { store(element, load(element), raw); }

fn value_of(raw: u32) -> f32 { return bitcast<f32>(f32_from_half(raw)); }

fn raw_of(value: f32) -> u32 { return half_from_f32(bitcast<u32>(value)); }

fn raw_from_half(half: u32) -> u32 { return half; }

fn raw_from_f32(bits: u32) -> u32 { return half_from_f32(bits); }

/// Bits of the binary32 with the value of a weight.
fn f32_bits_of(raw: u32) -> u32 { return f32_from_half(raw); }

/// The bits of a binary16 that the weight was made from.
fn half_of(raw: u32) -> u32 { return raw; }

/// First journal word of a part that has `kept` entries before it: with one spare half a part, every part starts on a word of
/// its own.
fn journal_start(kept: u32, part: u32) -> u32 { return (kept + part) >> 1u; }

/// Elements in a word of a buffer or journal.
const PER_WORD = 2u;
