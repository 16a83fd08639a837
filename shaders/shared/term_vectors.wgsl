// Vectors of ternary rank-1 terms: sixteen entries in a word, each of two bits in two's complement, the first in the least
// significant bits. Every vector starts on a word of its own.

const ENTRIES_PER_WORD = 16u;

/// Words of a vector.
fn vector_words(entries: u32) -> u32 { return (entries + ENTRIES_PER_WORD - 1u) / ENTRIES_PER_WORD; }

/// Entry `i` of the word that holds it: -1, 0 or 1.
fn term_entry_in(word: u32, i: u32) -> f32 { return f32(i32(word << (30u - 2u * (i % ENTRIES_PER_WORD))) >> 30u); }

/// Entries `first` to `first + 3` of a word.
fn term_entries_in(word: u32, first: u32) -> vec4f {
  return vec4f(vec4i(vec4u(word) << (vec4u(30u, 28u, 26u, 24u) - vec4u(2u * first))) >> vec4u(30u));
}
