import type { EngineStats } from '../loader/index.ts'

/** What VRAM is used for, by names for a reader of the page. Parts that most bases lack are left out while they are 0. */
export function vramParts({
  base,
  own,
  experts,
  journal,
  copies,
  beside,
}: Omit<EngineStats['vram'], 'total'>): [name: string, bytes: number][] {
  const parts: [string, number, isAlways?: true][] = [
    ['base', base, true],
    ['base as it came', own],
    ['files', experts, true],
    ['what they replaced', journal + copies, true],
    ['beside the base', beside],
  ]
  return parts.flatMap(([name, bytes, isAlways]) => (isAlways || bytes > 0 ? [[name, bytes]] : []))
}
