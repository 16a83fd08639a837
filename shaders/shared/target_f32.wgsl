// Weights as binary32 words, and a journal with a word for each of them.
#import half
#import weights_f32

fn load(element: u32) -> u32 { return word_at(element); }

fn store(element: u32, current: u32, raw: u32) { set_word(element, raw); }

/// `store` without the current weight.
fn overwrite(element: u32, raw: u32) { set_word(element, raw); }

fn value_of(raw: u32) -> f32 { return bitcast<f32>(raw); }

fn raw_of(value: f32) -> u32 { return bitcast<u32>(value); }

fn raw_from_half(half: u32) -> u32 { return f32_from_half(half); }

fn raw_from_f32(bits: u32) -> u32 { return bits; }

/// Bits of the binary32 with the value of a weight.
fn f32_bits_of(raw: u32) -> u32 { return raw; }

/// The bits of a binary16 that the weight was made from.
fn half_of(raw: u32) -> u32 {
  if ((raw & 0x7fffffffu) > 0x7f800000u) { return ((raw >> 16u) & 0x8000u) | 0x7c00u | ((raw >> 13u) & 0x3ffu); }
  return half_from_f32(raw);
}

/// First journal word of a part that has `kept` entries before it.
fn journal_start(kept: u32, part: u32) -> u32 { return kept; }

/// Elements in a word of a buffer or journal.
const PER_WORD = 1u;
