/** Bits of information per weight of a ternary tensor of density k: −[(1−k)·log2(1−k) + k·log2(k/2)]. */
export function ternaryEntropy(density: number): number {
  const part = (p: number, q: number) => (p === 0 ? 0 : -p * Math.log2(q))
  return part(1 - density, 1 - density) + part(density, density / 2)
}
