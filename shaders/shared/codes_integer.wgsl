// Takes codes apart by shifts, for GPUs. It does to the bit what `codes` does.
#requires arena, Cursor, Decoder, WINDOW

/// 2^index of 0 <= index < 32.
fn bit_of(index: u32) -> u32 { return 1u << index; }

/// Moves the window to the first bit that was not taken.
fn refill(cursor: ptr<function, Cursor>) {
  let taken = u32((*cursor).taken);
  let moved = u32((*cursor).shift) + taken;
  // The window is narrower than a word, so one load keeps both words right.
  let is_over = moved >= 32u;
  let word = (*cursor).word + select(0u, 1u, is_over);
  let shift = moved & 31u;
  let low_word = select((*cursor).low_word, (*cursor).high_word, is_over);
  let high_word = arena[word + 1u];
  (*cursor).window = i32(((low_word >> shift) | ((high_word << 1u) << (31u - shift))) & 0xffffffu);
  (*cursor).room = WINDOW;
  (*cursor).taken = 0.0;
  (*cursor).left -= i32(taken);
  (*cursor).word = word;
  (*cursor).shift = i32(shift);
  (*cursor).low_word = low_word;
  (*cursor).high_word = high_word;
}

/// Takes one code from the window and returns true. Where the window may not have the whole code, it takes only zeros of
/// it and returns false: nothing more can be taken before the next refill.
fn take(cursor: ptr<function, Cursor>, decoder: Decoder) -> bool {
  let window = u32((*cursor).window);
  let room = u32((*cursor).room);
  let low = u32(decoder.low);
  let zeros = select(min(countTrailingZeros(window), 24u), room, window == 0u);
  let tail = window >> (zeros + 1u);
  let short = tail & u32(decoder.mask);
  let is_long = short >= u32(decoder.cut);
  let remainder = select(short, 2u * short + ((tail >> low) & 1u) - u32(decoder.cut), is_long);
  let size = low + select(0u, 1u, is_long);
  // Terminator, remainder with its extra bit, sign.
  let is_whole = zeros + low + 3u <= room;
  let taken = zeros + select(0u, size + 2u, is_whole);
  let after_zeros = (*cursor).next + f32(zeros) * decoder.m;
  let position = after_zeros + f32(remainder);
  (*cursor).window = select(0, i32(tail >> (size + 1u)), is_whole);
  (*cursor).room = select(0.0, f32(room - taken), is_whole);
  (*cursor).taken += f32(taken);
  (*cursor).next = select(after_zeros, position + 1.0, is_whole);
  (*cursor).position = position;
  (*cursor).negative = ((tail >> size) & 1u) != 0u;
  return is_whole;
}
