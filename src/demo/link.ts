import type { ExpertSwitcher } from '../element/expert_switcher.ts'

/** The address is updated after this long without a change. */
const SETTLE_MS = 300

/**
 * Writes prompt, experts and weights to the hash of the address, and reads them from it:
 * `#prompt=Once&pens=bard:0.75,css:0.25`. Where chance chooses, `&seed=…` makes it choose the same text again; each text
 * after that has a seed of its own.
 */
export function linkAddress(switcher: ExpertSwitcher): void {
  let written = location.hash
  /** Of the text that is shown. */
  let shownSeed: number | undefined
  let wasWriting = false
  const restore = () => {
    const { prompt, pens, seed = drawSeed() } = parseLink(location.hash)
    if (prompt !== undefined) switcher.prompt = prompt
    if (isLeftToChance(switcher)) switcher.seed = seed
    if (pens === undefined) return
    switcher.activate(pens).catch((error: Error) => switcher.state.registryFailed(error))
  }
  let timer: ReturnType<typeof setTimeout> | undefined
  const write = () => {
    const { hand, alpha } = switcher.state
    // Experts that the visitor brought are not there for others who follow the link.
    const listed = hand.filter(({ pen }) => pen.file === undefined)
    const pens = listed.map(({ pen, share }) => `${encoded(pen.id)}:${+(share * alpha).toFixed(4)}`)
    const seed = isLeftToChance(switcher) ? `&seed=${shownSeed ?? switcher.seed}` : ''
    const hash = `#prompt=${encoded(switcher.prompt)}&pens=${pens.join(',')}${seed}`
    if (hash === written) return
    written = hash
    history.replaceState(history.state, '', hash)
  }
  restore()
  window.addEventListener('hashchange', () => {
    written = location.hash
    shownSeed = undefined
    restore()
  })
  switcher.addEventListener('change', () => {
    // Until the base is ready, what the address asks for is not applied yet.
    if (switcher.state.status !== 'ready') return
    const { writing } = switcher.state
    if (writing) shownSeed = switcher.seed
    else if (wasWriting && isLeftToChance(switcher)) switcher.seed = drawSeed()
    wasWriting = writing
    clearTimeout(timer)
    timer = setTimeout(write, SETTLE_MS)
  })
}

/** A link may come from anywhere: what it may ask for is bounded. */
const MAX_PENS = 64
const MAX_WEIGHT = 1000
const MAX_PROMPT_LENGTH = 16_384

/** What the hash of an address asks for. */
export function parseLink(hash: string): {
  prompt?: string
  pens?: { id: string; weight: number }[]
  seed?: number
} {
  const values = new URLSearchParams(hash.slice(1))
  const pens = values.get('pens')?.split(',').filter(Boolean).slice(0, MAX_PENS).map(parsePen)
  return {
    prompt: values.get('prompt')?.slice(0, MAX_PROMPT_LENGTH),
    pens,
    seed: parseSeed(values.get('seed')),
  }
}

function isLeftToChance({ temperature = 0 }: ExpertSwitcher): boolean {
  return temperature > 0
}

function parseSeed(text: string | null): number | undefined {
  return text !== null && /^\d{1,9}$/.test(text) ? Number(text) : undefined
}

/** Short enough for an address. */
function drawSeed(): number {
  return Math.floor(Math.random() * 1e9)
}

function parsePen(text: string): { id: string; weight: number } {
  const [id = '', weight = '1'] = text.split(':')
  const value = Number(weight)
  return { id: decodeId(id), weight: Math.abs(value) <= MAX_WEIGHT ? value : 1 }
}

/** Half a surrogate pair has no encoding. */
function encoded(text: string): string {
  return encodeURIComponent(text.replace(/\p{Surrogate}/gu, '\ufffd'))
}

/** An id that is not encoded is taken as it is. */
function decodeId(id: string): string {
  try {
    return decodeURIComponent(id)
  } catch {
    return id
  }
}
