import type { ExpertSwitcher } from '../element/expert_switcher.ts'

/** The address is updated after this long without a change. */
const SETTLE_MS = 300

/**
 * Writes prompt, experts and weights to the hash of the address, and reads them from it:
 * `#prompt=Once&pens=bard:0.75,css:0.25`.
 */
export function linkAddress(switcher: ExpertSwitcher): void {
  let written = location.hash
  const restore = () => {
    const { prompt, pens } = parseLink(location.hash)
    if (prompt !== undefined) switcher.prompt = prompt
    if (pens === undefined) return
    switcher.activate(pens).catch((error: Error) => switcher.state.registryFailed(error))
  }
  let timer: ReturnType<typeof setTimeout> | undefined
  const write = () => {
    const { hand, alpha } = switcher.state
    // Experts that the visitor brought are not there for others who follow the link.
    const listed = hand.filter(({ pen }) => pen.file === undefined)
    const pens = listed.map(({ pen, share }) => `${encoded(pen.id)}:${+(share * alpha).toFixed(4)}`)
    const hash = `#prompt=${encoded(switcher.prompt)}&pens=${pens.join(',')}`
    if (hash === written) return
    written = hash
    history.replaceState(history.state, '', hash)
  }
  restore()
  window.addEventListener('hashchange', () => {
    written = location.hash
    restore()
  })
  switcher.addEventListener('change', () => {
    // Until the base is ready, what the address asks for is not applied yet.
    if (switcher.state.status !== 'ready') return
    clearTimeout(timer)
    timer = setTimeout(write, SETTLE_MS)
  })
}

/** A link may come from anywhere: what it may ask for is bounded. */
const MAX_PENS = 64
const MAX_WEIGHT = 1000
const MAX_PROMPT_LENGTH = 16_384

/** What the hash of an address asks for. */
export function parseLink(hash: string): { prompt?: string; pens?: { id: string; weight: number }[] } {
  const values = new URLSearchParams(hash.slice(1))
  const pens = values.get('pens')?.split(',').filter(Boolean).slice(0, MAX_PENS).map(parsePen)
  return { prompt: values.get('prompt')?.slice(0, MAX_PROMPT_LENGTH), pens }
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
