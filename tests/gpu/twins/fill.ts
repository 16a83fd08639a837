/** Twin of shaders/fill.wgsl. */
export function fill({ words, value }: { words: number; value: number }, filled: Uint32Array): void {
  filled.fill(value, 0, words)
}
