// Takes codes apart in binary32 arithmetic on integers below 2^24 and on powers of two, where every product, sum and floor is
// exact on every device. Software adapters have no vector shifts by amounts that differ between invocations, and take several
// times as long for `codes_integer`.
#requires arena, Cursor, Decoder, whole_of, power_of_two, bits_left, WINDOW

/// 2^index of 0 <= index < 23.
fn bit_of(index: u32) -> u32 { return bitcast<u32>(whole_of(power_of_two(i32(index)))); }

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
