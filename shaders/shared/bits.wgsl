// Bits of little-endian words in `arena`, least significant first, as src/format/bits.ts reads them.
#requires arena

/// 32 bits from bit `bit` of the words that start at word `base`.
fn window_at(base: u32, bit: u32) -> u32 {
  let word = base + (bit >> 5u);
  let shift = bit & 31u;
  return (arena[word] >> shift) | ((arena[word + 1u] << 1u) << (31u - shift));
}

/// Field `index` of fields that are `bits <= 31` wide.
fn field_at(base: u32, index: u32, bits: u32) -> u32 {
  return window_at(base, index * bits) & ((1u << bits) - 1u);
}
