/**
 * Many switches at random while one text is being written: every token has the ink of who wrote it, and the base
 * comes back to the bit.
 *
 * @module
 */
import { expect, test } from '@playwright/test'
import type { MeasuredSwitch } from '../src/element/switcher_state.ts'
import type { GeneratedToken } from '../src/loader/index.ts'
import { Random } from '../tests/gpu/random.ts'
import { ready } from './support/page.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const SWITCHES = 100

/** What to take in hand: the base, one expert, or two together. */
function randomHands(ids: readonly string[], count: number): { id: string; weight: number }[][] {
  const random = new Random(20)
  const weight = () => random.pick([0.25, 0.5, 0.75, 1])
  return Array.from({ length: count }, () => {
    const first = random.pick(ids)
    const second = random.pick(ids.filter((id) => id !== first))
    const one = [{ id: first, weight: weight() }]
    return random.pick([[], one, one, [...one, { id: second, weight: weight() }]])
  })
}

/** A hand in words, whatever the order of its experts. */
const plain = (hand: readonly { expert: string; weight: number }[]) =>
  hand
    .map(({ expert, weight }) => `${expert} × ${weight.toFixed(2)}`)
    .sort()
    .join(' + ')

test(`${SWITCHES} switches while it writes`, async ({ page }) => {
  // In the quick tier main.spec.ts has the pen that changes hands in mid-sentence, and engine.spec.ts random switches.
  test.skip(!LONG, ONLY_LONG)
  // A token for each: a hundred take about a minute alone, longer where others use the machine.
  test.setTimeout(600_000)
  const problems: string[] = []
  page.on('pageerror', (error) => problems.push(error.message))
  await page.goto('./')
  await ready(page)
  const ids = await page.evaluate(async () => {
    const { state } = document.querySelector('expert-switcher')!
    const pens = state.pens.filter(({ id }) => id !== '').slice(0, 4)
    // Resident before the text begins, so that every switch is a switch and not a download.
    await state.resident(pens.map((pen) => ({ pen, weight: 1 })))
    return pens.map(({ id }) => id)
  })
  const hands = randomHands(ids, SWITCHES)

  const outcome = await page.evaluate(async (hands) => {
    const switcher = document.querySelector('expert-switcher')!
    const { state } = switcher
    const loader = state.loader as unknown as { hashWeights(): Promise<string> }
    const hashBefore = await loader.hashWeights()
    const tokens: GeneratedToken[] = []
    const errors: string[] = []
    const done: { expert: string; weight: number }[][] = []
    const inks: Promise<{ shown?: string; reported: string }>[] = []
    const manuscript = switcher.shadowRoot!.querySelector('trit-manuscript')!
    const inkOf = async ({ experts }: GeneratedToken, index: number) => {
      const [heaviest] = [...experts].sort((a, b) => b.weight - a.weight)
      const reported = String(state.pens.find(({ id }) => id === (heaviest?.expert ?? ''))?.ink)
      // Shown with the next drawing; the one after it belongs to a later token.
      await Promise.resolve()
      await switcher.updateComplete
      await manuscript.updateComplete
      const token = manuscript.renderRoot.querySelector(`[data-token="${index}"]`)
      return { shown: token?.closest<HTMLElement>('.run')?.dataset.ink, reported }
    }
    switcher.addEventListener('error', (event) =>
      errors.push((event as unknown as CustomEvent<Error>).detail.message),
    )
    switcher.addEventListener('switch', (event) => {
      done.push((event as CustomEvent<MeasuredSwitch>).detail.report.experts.map((each) => ({ ...each })))
    })
    let next = 0
    switcher.addEventListener('token', (event) => {
      const token = (event as CustomEvent<GeneratedToken>).detail
      tokens.push(token)
      inks.push(inkOf(token, state.tokens.length - 1))
      if (next < hands.length) void switcher.activate(hands[next++]!)
      else switcher.stop()
    })
    switcher.prompt = 'Once upon a time'
    switcher.temperature = 0
    // Enough for all, though an end of text may come: then it goes on from there.
    switcher.maxNewTokens = 300
    while (next < hands.length) await switcher.generate()
    await switcher.activate([])
    return {
      hashBefore,
      hashAfter: await loader.hashWeights(),
      tokens,
      inks: await Promise.all(inks),
      errors,
      done,
    }
  }, hands)

  expect(outcome.errors).toEqual([])
  expect(problems).toEqual([])
  expect(outcome.tokens.length).toBeGreaterThanOrEqual(SWITCHES)
  for (const { shown, reported } of outcome.inks) expect(shown).toBe(reported)
  expect(new Set(outcome.inks.map(({ reported }) => reported)).size).toBe(ids.length + 1)
  // A switch that the next one overtook was not done; the others came in the order asked for.
  expect(outcome.done.length).toBeGreaterThan(SWITCHES / 2)
  const asked = [...hands, []].map((hand) => plain(hand.map(({ id, weight }) => ({ expert: id, weight }))))
  let at = -1
  for (const hand of outcome.done.map(plain)) {
    const next = asked.indexOf(hand, at + 1)
    expect(next, `${hand} after ${asked[at]}`).toBeGreaterThan(at)
    at = next
  }
  expect(outcome.hashAfter).toBe(outcome.hashBefore)
})
