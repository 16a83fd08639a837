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
    const values = new URLSearchParams(location.hash.slice(1))
    const prompt = values.get('prompt')
    if (prompt !== null) switcher.prompt = prompt
    const pens = values.get('pens')
    if (pens === null) return
    const choice = pens.split(',').filter(Boolean).map(parsePen)
    switcher.activate(choice).catch((error: Error) => switcher.state.registryFailed(error))
  }
  let timer: ReturnType<typeof setTimeout> | undefined
  const write = () => {
    const { hand, alpha } = switcher.state
    // Experts that the visitor brought are not there for others who follow the link.
    const listed = hand.filter(({ pen }) => pen.file === undefined)
    const pens = listed.map(
      ({ pen, share }) => `${encodeURIComponent(pen.id)}:${+(share * alpha).toFixed(4)}`,
    )
    const hash = `#prompt=${encodeURIComponent(switcher.prompt)}&pens=${pens.join(',')}`
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

function parsePen(text: string): { id: string; weight: number } {
  const [id = '', weight = '1'] = text.split(':')
  const value = Number(weight)
  return { id: decodeId(id), weight: Number.isFinite(value) ? value : 1 }
}

/** The hash may come from anywhere: an id that is not encoded is taken as it is. */
function decodeId(id: string): string {
  try {
    return decodeURIComponent(id)
  } catch {
    return id
  }
}
