// IEEE 754 binary16 in integer arithmetic, because WGSL leaves rounding and subnormals of f32 -> f16 to the device.
// `halfFromBits` and `bitsFromHalf` in src/format/float16.ts do the same.

/// Nearest binary16 of a binary32, ties to even, as bits.
fn half_from_f32(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) { return sign | select(0x7c00u, 0x7e00u, magnitude > 0x7f800000u); }
  if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; }
  if (magnitude >= 0x38800000u) {
    let rounded = magnitude + 0x0fffu + ((magnitude >> 13u) & 1u);
    return sign | ((rounded - 0x38000000u) >> 13u);
  }
  if (magnitude < 0x33000000u) { return sign; }
  let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  let shift = 126u - (magnitude >> 23u);
  let half = mantissa >> shift;
  let rest = mantissa & ((1u << shift) - 1u);
  let middle = 1u << (shift - 1u);
  return sign | (half + select(0u, 1u, rest > middle || (rest == middle && (half & 1u) == 1u)));
}

/// Bits of the binary32 with the value of a binary16; exact.
fn f32_from_half(half: u32) -> u32 {
  let sign = (half & 0x8000u) << 16u;
  let exponent = (half >> 10u) & 0x1fu;
  let mantissa = half & 0x3ffu;
  if (exponent == 0x1fu) { return sign | 0x7f800000u | (mantissa << 13u); }
  if (exponent != 0u) { return sign | ((exponent + 112u) << 23u) | (mantissa << 13u); }
  if (mantissa == 0u) { return sign; }
  let lead = countLeadingZeros(mantissa) - 21u;
  return sign | ((113u - lead) << 23u) | (((mantissa << lead) & 0x3ffu) << 13u);
}
