// One step of a Golomb-coded block. The code: src/format/golomb.ts; twin: src/gpu/reference/golomb.ts.
/// A tensor's stream in the arena, and how to read it.
struct Code {
  /// Arena word of its first code word.
  words: u32,
  m: u32,
  /// floor(log2 m).
  low: u32,
  /// First remainder that takes one more bit.
  cut: u32,
}

struct Cursor {
  /// Next bit to read; after the last entry of a sound block this is `end`.
  bit: u32,
  end: u32,
  /// First position that the next entry may have.
  next: u32,
  /// The entry read last, and its sign: 1 is negative.
  position: u32,
  negative: u32,
  /// The word that `bit` is in, and the next one.
  low_word: u32,
  high_word: u32,
}

fn cursor_at(code: Code, bit: u32, end: u32) -> Cursor {
  let word = code.words + (bit >> 5u);
  return Cursor(bit, end, 0u, 0u, 0u, arena[word], arena[word + 1u]);
}

fn more(cursor: Cursor) -> bool { return cursor.bit < cursor.end; }

/// Trailing zeros of a word, 32 for 0: the exponent of its lowest bit as f32, which is exact. Much shorter than what
/// `countTrailingZeros` is translated to where the device has no instruction for it.
fn trailing_zeros(word: u32) -> u32 {
  let exponent = (bitcast<u32>(f32(word & (~word + 1u))) >> 23u) - 127u;
  return select(exponent, 32u, word == 0u);
}

/// Reads one code and returns true; or, where it is too long for one window, only zeros of it, and returns false.
/// Without branches, because invocations that walk different blocks side by side would take all of them.
fn step(cursor: ptr<function, Cursor>, code: Code) -> bool {
  let bit = (*cursor).bit;
  let shift = bit & 31u;
  let window = ((*cursor).low_word >> shift) | (((*cursor).high_word << 1u) << (31u - shift));
  let zeros = trailing_zeros(window);
  // Terminator, remainder with its extra bit, sign.
  let whole = zeros + code.low + 3u <= 32u;
  let tail = window >> ((zeros + 1u) & 31u);
  let short = tail & ((1u << code.low) - 1u);
  let long = short >= code.cut;
  let remainder = select(short, 2u * short + ((tail >> code.low) & 1u) - code.cut, long);
  let size = select(code.low, code.low + 1u, long);
  let after_zeros = (*cursor).next + zeros * code.m;
  let position = after_zeros + remainder;
  let next_bit = bit + zeros + select(0u, size + 2u, whole);
  (*cursor).bit = next_bit;
  // A step moves by 32 bits at most, so one load keeps both words right.
  (*cursor).low_word = select((*cursor).high_word, (*cursor).low_word, (next_bit >> 5u) == (bit >> 5u));
  (*cursor).high_word = arena[code.words + (next_bit >> 5u) + 1u];
  (*cursor).next = select(after_zeros, position + 1u, whole);
  (*cursor).position = position;
  (*cursor).negative = (tail >> size) & 1u;
  return whole;
}
