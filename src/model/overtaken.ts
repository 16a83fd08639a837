/** What a switch rejects with when a later one took its place. */
export function overtaken(): DOMException {
  return new DOMException('A later switch overtook this one', 'AbortError')
}
