// The buffer of the one tensor that a dispatch works on, as words.
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;

fn word_at(at: u32) -> u32 { return weights[at]; }

fn set_word(at: u32, word: u32) { weights[at] = word; }
