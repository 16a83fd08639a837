import type { ExpertSwitcher } from '../element/expert_switcher.ts'

/** After this long without a change the address says what is on the page. */
const SETTLE_MS = 300

/**
 * Keeps prompt, experts and weights in the hash of the address, and takes them from it:
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
    // What the visitor brought is not there for who follows the link.
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
    // Before the base is there, what the address asks for is still to come.
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

/** The hash comes from anywhere: what is not an encoded id is taken as it is. */
function decodeId(id: string): string {
  try {
    return decodeURIComponent(id)
  } catch {
    return id
  }
}
