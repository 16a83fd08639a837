/**
 * IEEE 754 binary16 in integer arithmetic: the same bits on every engine, which `f16` hardware and WGSL's
 * `pack2x16float` (rounding and subnormals left to the device) do not promise.
 *
 * @module
 */

const f32 = new Float32Array(1)
const u32 = new Uint32Array(f32.buffer)

/** Binary16 nearest to `value` as a binary32, ties to even; overflow gives infinity, NaN gives a quiet NaN. */
export function toHalf(value: number): number {
  f32[0] = value
  return halfFromBits(u32[0])
}

/** The same from the bits of a binary32. The WGSL twin is `half_from_f32` in `shaders/half.wgsl`. */
export function halfFromBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude >= 0x7f800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00)
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude >= 0x38800000) {
    const rounded = magnitude + 0x0fff + ((magnitude >>> 13) & 1)
    return sign | ((rounded - 0x38000000) >>> 13)
  }
  if (magnitude < 0x33000000) return sign
  const exponent = magnitude >>> 23
  const mantissa = (magnitude & 0x7fffff) | 0x800000
  const shift = 126 - exponent
  const half = mantissa >>> shift
  const rest = mantissa & ((1 << shift) - 1)
  const middle = 1 << (shift - 1)
  return sign | (half + (rest > middle || (rest === middle && (half & 1) === 1) ? 1 : 0))
}

/** Value of a binary16; exact. */
export function fromHalf(half: number): number {
  u32[0] = bitsFromHalf(half)
  return f32[0]
}

/** Bits of the binary32 with the value of a binary16. The WGSL twin is `f32_from_half`. */
export function bitsFromHalf(half: number): number {
  const sign = (half & 0x8000) << 16
  const exponent = (half >>> 10) & 0x1f
  const mantissa = half & 0x3ff
  if (exponent === 0x1f) return (sign | 0x7f800000 | (mantissa << 13)) >>> 0
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0
  if (mantissa === 0) return sign >>> 0
  const lead = Math.clz32(mantissa) - 21
  return (sign | ((113 - lead) << 23) | (((mantissa << lead) & 0x3ff) << 13)) >>> 0
}

export function halvesToFloats(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = bitsFromHalf(halves[i])
  return new Float32Array(bits.buffer)
}

export function floatsToHalves(floats: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length)
  const halves = new Uint16Array(floats.length)
  for (let i = 0; i < floats.length; i++) halves[i] = halfFromBits(bits[i])
  return halves
}
