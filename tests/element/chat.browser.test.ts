import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { userEvent } from 'vitest/browser'
import { defineElements } from '../../src/element/elements.ts'
import { ExpertSwitcher } from '../../src/element/expert_switcher.ts'
import { TritswapError } from '../../src/errors.ts'
import type { FakeOptions } from './fake_loader.ts'
import { all, button, find, place, removeAll } from './switcher_page.ts'

const ANSWER = ' <b>One</b>. Two & three'

beforeAll(defineElements)
afterEach(removeAll)

/** A switcher that chats. */
async function chat(fake: FakeOptions = {}, settings: Partial<ExpertSwitcher> = {}): Promise<ExpertSwitcher> {
  const switcher = await place(Object.assign(fake, { chat: true, text: fake.text ?? ANSWER }))
  Object.assign(switcher, { mode: 'chat', prompt: '', ...settings })
  await switcher.updateComplete
  await vi.waitFor(() => expect(find(switcher, '[role=log][aria-label=Chat]')).toBeDefined())
  return switcher
}

/** What is shown of each answer. */
const answers = (switcher: ExpertSwitcher) =>
  all(switcher, '.answer').map((answer) => ({
    by: answer.querySelector('h3')!.textContent?.trim(),
    inks: [...answer.querySelectorAll<HTMLElement>('.run')].map(({ dataset }) => Number(dataset.ink)),
    text: answer.querySelector('.text')!.textContent,
  }))

const shown = async (switcher: ExpertSwitcher) => {
  await switcher.updateComplete
  await new Promise((resolve) => setTimeout(resolve))
  return answers(switcher)
}

describe('a chat', () => {
  test('each answer has the name and the ink of its expert; markup is text', async () => {
    const log: string[] = []
    const switcher = await chat({ log })
    await switcher.ask('<i>Who</i> are you?')
    await switcher.activate('bard')
    await switcher.ask('And now?')
    expect(await shown(switcher)).toEqual([
      { by: 'Base', inks: [0], text: ANSWER },
      { by: 'BARD', inks: [2], text: ANSWER },
    ])
    expect(all(switcher, '.question').map(({ textContent }) => textContent?.trim())).toEqual([
      '<i>Who</i> are you?',
      'And now?',
    ])
    expect(all(switcher, '.sheet b, .sheet i')).toEqual([])
    // One conversation: the second question is a turn of it.
    expect(log).toEqual(['ask <i>Who</i> are you?', 'load bard', 'activate bard', 'ask And now?'])
  })

  test('Enter sends and empties the prompt, Stop ends the answer, Continue goes on with it', async () => {
    const log: string[] = []
    // Slow enough that the answer is not over before anybody looks.
    const switcher = await chat({ log, tokenMs: 100 })
    const prompt = find<HTMLTextAreaElement>(switcher, 'textarea')!
    expect(prompt.getAttribute('aria-label')).toBe('Your message')
    prompt.focus()
    await userEvent.keyboard('Hello{Enter}')
    await vi.waitFor(() => expect(switcher.state.exchanges[0]?.answer.length).toBeGreaterThan(0))
    expect(prompt.value).toBe('')
    await vi.waitFor(() => button(switcher, 'Stop')!.click())
    await vi.waitFor(() => expect(button(switcher, 'Continue')).toBeDefined())
    expect(find(switcher, '.why')!.textContent).toBe('Stopped.')
    const so = switcher.state.exchanges[0]!.answer.length
    button(switcher, 'Continue')!.click()
    await vi.waitFor(() => expect(switcher.state.writing).toBe(false), { timeout: 10_000 })
    expect(switcher.state.exchanges[0]!.answer.length).toBeGreaterThan(so)
    expect(log).toEqual(['ask Hello', `go on after ${so}`])
    // It has ended by itself: there is nothing to continue.
    await switcher.updateComplete
    await vi.waitFor(() => expect(button(switcher, 'Continue')).toBeUndefined())
  })

  test('an answer that reaches the token limit says so', async () => {
    const switcher = await chat({}, { maxNewTokens: 2 })
    await switcher.ask('Hello')
    await vi.waitFor(() => expect(find(switcher, '.why')!.textContent).toBe('Cut at the token limit.'))
  })

  test('Regenerate answers again with the pen in hand', async () => {
    const log: string[] = []
    const switcher = await chat({ log })
    await switcher.ask('Hello')
    await switcher.activate('css')
    button(switcher, 'Regenerate')!.click()
    await vi.waitFor(() => expect(switcher.state.exchanges[0]!.ended).toBe('stop'))
    expect(await shown(switcher)).toEqual([{ by: 'CSS', inks: [3], text: ANSWER }])
    expect(log.slice(-2)).toEqual(['activate css', 'go on after 0'])
  })

  test('a pen that is taken in the middle of an answer goes on with it', async () => {
    const switcher = await chat({ tokenMs: 10, text: ' and'.repeat(60) })
    const asked = switcher.ask('Hello')
    await vi.waitFor(() => expect(switcher.state.exchanges[0]?.answer.length).toBeGreaterThan(0))
    await switcher.activate('austen')
    await asked
    const [answer] = await shown(switcher)
    expect(answer).toMatchObject({ by: 'Base → AUSTEN', inks: [0, 1] })
    expect(find(switcher, '.mark')!.textContent).toBe('AUSTEN')
  })

  test('a sample takes the pen of its ink and asks it, in a new chat', async () => {
    const log: string[] = []
    const switcher = await chat({ log })
    await switcher.ask('Hello')
    const sample = button(switcher, 'BARD Ask bard')!
    expect(sample.dataset.ink).toBe('2')
    sample.click()
    await vi.waitFor(() => expect(switcher.state.exchanges[1]?.ended).toBe('stop'))
    expect((await shown(switcher))[1]!.by).toBe('BARD')
    expect(all(switcher, '.break')).toHaveLength(1)
    expect(log).toEqual(['ask Hello', 'load bard', 'activate bard', 'end', 'ask Ask bard'])
  })

  test('New chat empties it; Copy copies the text', async () => {
    const switcher = await chat()
    await switcher.ask('Hello')
    const copied = vi.spyOn(navigator.clipboard, 'writeText').mockResolvedValue()
    await vi.waitFor(() => expect(button(switcher, 'Copy')).toBeDefined())
    button(switcher, 'Copy')!.click()
    await vi.waitFor(() => expect(button(switcher, 'Copied')).toBeDefined())
    expect(copied).toHaveBeenCalledWith(ANSWER)
    button(switcher, 'New chat')!.click()
    await vi.waitFor(() => expect(answers(switcher)).toEqual([]))
  })

  test('what goes wrong stands at the answer, and trying again asks again', async () => {
    const fake: FakeOptions = {
      failAsk: new TritswapError('input', 'Cannot ask: 600 tokens, the context has 512'),
    }
    const log: string[] = []
    const switcher = await chat(Object.assign(fake, { log }))
    const errors: Error[] = []
    switcher.addEventListener('error', (event) =>
      errors.push((event as unknown as CustomEvent<Error>).detail),
    )
    await switcher.ask('Hello')
    await vi.waitFor(() => expect(find(switcher, '.answer [role=alert]')!.textContent).toMatch(/has 512/))
    expect(errors).toHaveLength(1)
    fake.failAsk = undefined
    button(switcher, 'Try again')!.click()
    await vi.waitFor(() => expect(switcher.state.exchanges[0]!.ended).toBe('stop'))
  })

  test('an answer goes on after its device was lost', async () => {
    const log: string[] = []
    const switcher = await chat({ log, lose: 1, loseAfter: 2 })
    await switcher.ask('Hello')
    expect(switcher.state.exchanges[0]).toMatchObject({ ended: 'stop', problem: '' })
    expect(log).toEqual(['ask Hello', 'go on after 2'])
  })

  test('what the page sets is asked for, and nothing else', async () => {
    const turns: Record<string, unknown>[] = []
    const switcher = await chat({ turns })
    await switcher.ask('Hello')
    switcher.setAttribute('stop', '["\\n", "END"]')
    for (const [name, value] of Object.entries({
      temperature: 0.7,
      'top-p': 0.9,
      'min-p': 0.05,
      seed: 7,
      system: 'Be brief',
    }))
      switcher.setAttribute(name, String(value))
    await switcher.ask('Hello')
    switcher.removeAttribute('seed')
    expect(switcher.seed).toBeUndefined()
    expect(turns.map(({ signal: _, experts: __, ...options }) => options)).toEqual([
      { maxNewTokens: 32 },
      { maxNewTokens: 32, temperature: 0.7, topP: 0.9, minP: 0.05, seed: 7, stop: ['\n', 'END'] },
    ])
    // Another system message begins a new chat.
    await switcher.updateComplete
    await vi.waitFor(() => expect(all(switcher, '.break')).toHaveLength(1))
  })

  test('two that share an engine answer each with its own experts', async () => {
    const log: string[] = []
    const first = await chat({ log, tokenMs: 5 })
    const create = ExpertSwitcher.createLoader
    const second = await place({}, { ready: false })
    ExpertSwitcher.createLoader = create
    await second.load()
    second.mode = 'chat'
    await first.activate('austen')
    await second.activate('css')
    await Promise.all([first.ask('Hello'), second.ask('Hello')])
    expect((await shown(first))[0]!.by).toBe('AUSTEN')
    expect((await shown(second))[0]!.by).toBe('CSS')
  })

  test('a base without a template says so in place, and can go on from a text', async () => {
    const switcher = await place({ chat: false })
    switcher.mode = 'chat'
    await switcher.updateComplete
    const alert = find(switcher, '[role=alert]')!
    expect(alert.textContent).toMatch(/This base cannot chat.*no chat template/s)
    await switcher.ask('Hello')
    expect(switcher.state.exchanges).toEqual([])
    button(switcher, 'Continue a text instead')!.click()
    await switcher.updateComplete
    expect(find(switcher, 'trit-manuscript')).toBeDefined()
  })
})

describe('on a software adapter', () => {
  test('the first token tells how long a token takes, and how long the answer at most', async () => {
    const switcher = await chat({ software: true, tokenMs: 500 })
    const asked = switcher.ask('Hello')
    const detail = () => find(switcher, '.detail [role=status]')!.textContent
    await vi.waitFor(() => expect(detail()).toMatch(/^Reading what you wrote/))
    await vi.waitFor(() =>
      expect(detail()).toBe(
        'The first token took 0.5 s, including reading your text, on a software adapter. Up to 31 more: 16 s at most.',
      ),
    )
    switcher.stop()
    await asked
  })

  test('on hardware nothing is said of it', async () => {
    const switcher = await chat({ software: false })
    await switcher.ask('Hello')
    await switcher.updateComplete
    expect(find(switcher, '.detail [role=status]')!.textContent).toBe('')
  })
})
