// Reads a Golomb-coded block; src/format/golomb.ts defines the code. `codes` takes the codes apart.
//
// There are no branches: invocations that walk different blocks side by side would execute both sides of each.
#import codes
#requires arena

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

/// `Code` as a step needs it.
struct Decoder {
  m: f32,
  low: f32,
  cut: i32,
  /// `low` ones, and one more.
  mask: i32,
  wide_mask: i32,
  /// 2^-(low + 1): drops a remainder of `low` bits and the sign.
  drop: f32,
}

/// Bits of a window, all that one refill provides. A code without zeros takes 15 at most.
const WINDOW = 24.0;

struct Cursor {
  /// Arena word and bit of it where the window starts.
  word: u32,
  shift: i32,
  /// Bits from there to the end of the block.
  left: i32,
  low_word: u32,
  high_word: u32,
  /// Content of the window from its lowest bit, how many bits of it are left, and how many were taken.
  window: i32,
  room: f32,
  taken: f32,
  /// First position that the next entry may have.
  next: f32,
  /// The entry taken last.
  position: f32,
  negative: bool,
}

/// floor(x) of 0 <= x < 2^23 as an integer. A conversion would be slower: it has to treat NaN and values out of range.
fn whole_of(x: f32) -> i32 { return bitcast<i32>(floor(x) + 8388608.0) - 0x4b000000; }

/// 2^exponent of a normal number.
fn power_of_two(exponent: i32) -> f32 { return bitcast<f32>((exponent + 127) * 0x800000); }

fn decoder_of(code: Code) -> Decoder {
  let size = 1 << code.low;
  return Decoder(
    f32(code.m), f32(code.low), i32(code.cut), size - 1, 2 * size - 1, power_of_two(-1 - i32(code.low)),
  );
}

fn cursor_at(code: Code, bit: u32, end: u32) -> Cursor {
  let word = code.words + (bit >> 5u);
  return Cursor(word, i32(bit & 31u), i32(end - bit), arena[word], 0u, 0, 0.0, 0.0, 0.0, 0.0, false);
}

/// Bits between the cursor and the end of the block: 0 after the last entry of a sound block.
fn bits_left(cursor: Cursor) -> i32 { return cursor.left - whole_of(cursor.taken); }

fn more(cursor: Cursor) -> bool { return bits_left(cursor) > 0; }

/// A refill and one take.
fn step(cursor: ptr<function, Cursor>, decoder: Decoder) -> bool {
  refill(cursor);
  return take(cursor, decoder);
}
