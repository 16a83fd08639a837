// The buffer of the one tensor that a dispatch works on, as words that invocations share.
@group(0) @binding(1) var<storage, read_write> weights: array<atomic<u32>>;

fn word_at(at: u32) -> u32 { return atomicLoad(&weights[at]); }

fn flip_word(at: u32, bits: u32) { atomicXor(&weights[at], bits); }
