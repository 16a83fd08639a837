// Reads a Golomb-coded block; src/format/golomb.ts defines the code.
//
// Codes are taken apart in binary32 arithmetic on integers below 2^24 and on powers of two, where every product, sum and
// floor is exact on every device. Shifts by amounts that differ between invocations would be plainer and as fast on a
// GPU, but take several times as long on a software adapter. There are no branches either: invocations that walk
// different blocks side by side would execute both sides of each.
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

/// Moves the window to the first bit that was not taken.
fn refill(cursor: ptr<function, Cursor>) {
  let taken = whole_of((*cursor).taken);
  let moved = (*cursor).shift + taken;
  // The window is narrower than a word, so one load keeps both words right.
  let is_over = moved >= 32;
  let word = (*cursor).word + select(0u, 1u, is_over);
  let shift = moved & 31;
  let low_word = select((*cursor).low_word, (*cursor).high_word, is_over);
  let high_word = arena[word + 1u];
  // Up to a shift of 8 the high word lies beyond the window: 2^24 moves it there.
  let lift = 2 * whole_of(power_of_two(31 - max(shift, 8)));
  (*cursor).window = (i32(low_word >> u32(shift)) | (i32(high_word) * lift)) & 0xffffff;
  (*cursor).room = WINDOW;
  (*cursor).taken = 0.0;
  (*cursor).left -= taken;
  (*cursor).word = word;
  (*cursor).shift = shift;
  (*cursor).low_word = low_word;
  (*cursor).high_word = high_word;
}

/// Takes one code from the window and returns true. Where the window may not have the whole code, it takes only zeros of
/// it and returns false: nothing more can be taken before the next refill.
fn take(cursor: ptr<function, Cursor>, decoder: Decoder) -> bool {
  let window = (*cursor).window;
  // The lowest 1 bit of the window as a number: its index is the exponent.
  let lowest = bitcast<i32>(f32(window & -window));
  let zeros = select(f32(lowest - 0x3f800000) * 0x1p-23, (*cursor).room, window == 0);
  // The bits after the terminator: times 2^-(zeros + 1).
  let tail = whole_of(f32(window) * bitcast<f32>(0x7e800000 - lowest));
  let short = tail & decoder.mask;
  let is_long = short >= decoder.cut;
  let extra = select(0, 1, (tail & decoder.wide_mask) != short);
  let remainder = select(short, short + short + extra - decoder.cut, is_long);
  let sign = select(decoder.mask, decoder.wide_mask, is_long) + 1;
  // Terminator, remainder with its extra bit, sign.
  let is_whole = zeros + decoder.low + 3.0 <= (*cursor).room;
  let taken = zeros + select(0.0, decoder.low + select(2.0, 3.0, is_long), is_whole);
  let rest = whole_of(f32(tail) * select(decoder.drop, 0.5 * decoder.drop, is_long));
  let after_zeros = (*cursor).next + zeros * decoder.m;
  let position = after_zeros + f32(remainder);
  (*cursor).window = select(0, rest, is_whole);
  (*cursor).room = select(0.0, (*cursor).room - taken, is_whole);
  (*cursor).taken += taken;
  (*cursor).next = select(after_zeros, position + 1.0, is_whole);
  (*cursor).position = position;
  (*cursor).negative = (tail & sign) != 0;
  return is_whole;
}

/// A refill and one take.
fn step(cursor: ptr<function, Cursor>, decoder: Decoder) -> bool {
  refill(cursor);
  return take(cursor, decoder);
}
