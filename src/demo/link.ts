import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { MAX_STRENGTH } from '../element/mix.ts'

/** The address is updated after this long without a change. */
const SETTLE_MS = 300

/**
 * Writes prompt, experts and weights to the hash of the address, and reads them from it:
 * `#prompt=Once&pens=bard:0.75,css:0.25`. Where chance chooses, `&seed=…` makes it choose the same text again; each text
 * after that has a seed of its own. Pens that are not here are left out.
 * @param say - is told which pens were left out; `''` if none
 */
export function linkAddress(switcher: ExpertSwitcher, say: (notice: string) => void): void {
  let written = location.hash
  /** Of the text that is shown. */
  let shownSeed: number | undefined
  let wasWriting = false
  const restore = () => {
    const { prompt, pens, seed = drawSeed() } = parseLink(location.hash)
    if (prompt !== undefined) switcher.prompt = prompt
    if (isLeftToChance(switcher)) switcher.seed = seed
    asked = pens
    takeAsked()
  }
  /** What the address asks for; undefined once it is done. */
  let asked: ReturnType<typeof parseLink>['pens']
  const takeAsked = () => {
    const { state } = switcher
    if (asked === undefined || (asked.length > 0 && !state.registryRead && state.registryProblem === ''))
      return
    const ids = new Set(state.pens.flatMap((pen) => (pen.variants ?? [pen]).map(({ id }) => id)))
    const known = asked.filter(({ id }) => ids.has(id))
    const unknown = asked.filter(({ id }) => !ids.has(id)).map(({ id }) => id)
    asked = undefined
    say(
      unknown.length === 0
        ? ''
        : `This link names pens that are not here: ${unknown.join(', ')}. ${unknown.length === 1 ? 'It was' : 'They were'} left out.`,
    )
    switcher.activate(withinStrength(known)).catch((error: Error) => switcher.state.registryFailed(error))
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
  switcher.addEventListener('change', takeAsked)
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

/** A link may come from anywhere: what it may ask for is bounded, as the controls of the page are. */
const MAX_PENS = 64
const MAX_PROMPT_LENGTH = 16_384
const MAX_SEED = 999_999_999

/** What the hash of an address asks for. What is out of range is clamped; what is not a number is ignored. */
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
  if (text === null || !/^[+-]?\d+$/.test(text)) return undefined
  return Math.min(MAX_SEED, Math.max(0, Number(text)))
}

/** Together they are as strong as the page lets them be, at most. */
function withinStrength(pens: { id: string; weight: number }[]): { id: string; weight: number }[] {
  const total = pens.reduce((sum, { weight }) => sum + weight, 0)
  if (total <= MAX_STRENGTH) return pens
  return pens.map(({ id, weight }) => ({ id, weight: +((weight * MAX_STRENGTH) / total).toFixed(4) }))
}

/** Short enough for an address. */
function drawSeed(): number {
  return Math.floor(Math.random() * (MAX_SEED + 1))
}

function parsePen(text: string): { id: string; weight: number } {
  const [id = '', weight = '1'] = text.split(':')
  const value = Number(weight)
  return { id: decodeId(id), weight: Number.isNaN(value) ? 1 : Math.min(MAX_STRENGTH, Math.max(0, value)) }
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
