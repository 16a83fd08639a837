import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { userEvent } from 'vitest/browser'
import { defineElements } from '../../src/element/elements.ts'
import { ExpertSwitcher } from '../../src/element/expert_switcher.ts'
import { TritswapError } from '../../src/errors.ts'
import { type FakeOptions, fakeLoader } from './fake_loader.ts'
import { all, button, find, place, REGISTRY, removeAll } from './switcher_page.ts'

beforeAll(defineElements)
afterEach(removeAll)

/** Text, ink and margin name of each run of the manuscript. */
const runs = (root: Element) =>
  all(root, '.run').map((run) => ({
    ink: Number(run.dataset.ink),
    name: run.querySelector('.mark')?.textContent,
    tokens: run.querySelectorAll('[data-token]').length,
  }))

describe('writing', () => {
  test('a switch in mid-sentence changes the ink from the token that the engine says', async () => {
    const switcher = await place({ tokenMs: 5 })
    const sets: number[] = []
    switcher.addEventListener('token', ({ detail }) => sets.push(detail.set))
    switcher.maxNewTokens = 40
    const written = switcher.generate()
    await vi.waitFor(() => expect(sets.length).toBeGreaterThan(3))
    await switcher.state.choose(switcher.state.pens[2]!)
    await written
    await switcher.updateComplete
    expect(runs(switcher)).toEqual([
      { ink: 0, name: 'Base', tokens: sets.filter((set) => set === 0).length },
      { ink: 2, name: 'BARD', tokens: sets.filter((set) => set === 1).length },
    ])
    expect(sets).toHaveLength(40)
  })

  test('Stop ends it, and what was written stays', async () => {
    const switcher = await place({ tokenMs: 5 })
    switcher.maxNewTokens = 1000
    const written = switcher.generate()
    await vi.waitFor(() => expect(switcher.state.tokens.length).toBeGreaterThan(2))
    button(switcher, 'Stop')!.click()
    await written
    await switcher.updateComplete
    expect(button(switcher, 'Write')!.disabled).toBe(false)
    expect(switcher.state.tokens.length).toBeGreaterThan(2)
    expect(find(switcher, '[role=alert]')).toBeUndefined()
  })

  test('Enter in the prompt writes; arrow keys in the manuscript tell who wrote a word', async () => {
    const switcher = await place()
    switcher.maxNewTokens = 3
    find<HTMLTextAreaElement>(switcher, 'textarea')!.focus()
    await userEvent.keyboard('{Enter}')
    await vi.waitFor(() => expect(switcher.state.tokens).toHaveLength(3))
    find(switcher, '.sheet')!.focus()
    await userEvent.keyboard('{ArrowRight}{ArrowRight}')
    await vi.waitFor(() => expect(find(switcher, '.detail')!.textContent).toMatch(/“was”\s+Base,/))
  })

  test('Write lets the prompt go: digits are for the pens while it writes', async () => {
    const log: string[] = []
    const switcher = await place({ tokenMs: 5, log })
    switcher.maxNewTokens = 1000
    find<HTMLTextAreaElement>(switcher, 'textarea')!.focus()
    await userEvent.keyboard('{Enter}')
    await vi.waitFor(() => expect(switcher.state.tokens.length).toBeGreaterThan(1))
    await userEvent.keyboard('3')
    await vi.waitFor(() => expect(log).toContain('activate bard'))
    expect(switcher.prompt).toBe('Once')
    switcher.stop()
  })

  test('Continue goes on from the end, Undo brings back what was there, Copy copies all of it', async () => {
    const switcher = await place({ text: ' a b c' })
    switcher.maxNewTokens = 2
    expect(button(switcher, 'Undo')).toBeUndefined()
    await switcher.generate()
    await switcher.activate('bard')
    button(switcher, 'Continue')!.click()
    await vi.waitFor(() => expect(switcher.state.tokens).toHaveLength(4))
    expect(runs(switcher).map(({ name }) => name)).toEqual(['Base', 'BARD'])
    const written = vi.spyOn(navigator.clipboard, 'writeText').mockResolvedValue()
    await vi.waitFor(() => button(switcher, 'Copy')!.click())
    expect(written).toHaveBeenCalledWith('Once a b a b')
    // Another text does not throw this one away.
    switcher.prompt = 'Twice'
    await switcher.generate()
    expect(switcher.state.prompt).toBe('Twice')
    const undo = async () => {
      await vi.waitFor(() => expect(button(switcher, 'Undo')).toBeDefined())
      button(switcher, 'Undo')!.click()
      await switcher.updateComplete
    }
    await undo()
    expect([switcher.state.prompt, switcher.state.tokens.length]).toEqual(['Once', 4])
    await undo()
    expect([switcher.state.prompt, switcher.state.tokens.length]).toEqual(['Once', 2])
    vi.restoreAllMocks()
  })

  test('a sample in the ink of a pen takes that pen and writes, also when nothing is loaded yet', async () => {
    const switcher = await place({ baseMs: 20 }, { ready: false })
    const sample = all<HTMLButtonElement>(switcher, '.samples button')[1]!
    expect(sample.textContent).toBe('BARD bard begins')
    sample.click()
    await vi.waitFor(() => expect(switcher.state.tokens.length).toBeGreaterThan(0), { timeout: 10_000 })
    expect(switcher.state.prompt).toBe('bard begins')
    expect(switcher.state.tokens[0]!.pens[0]!.pen.id).toBe('bard')
  })

  test('one token is told as one, and software writes few at once unless told otherwise', async () => {
    const switcher = await place({ tokenMs: 3, software: false })
    switcher.maxNewTokens = 1
    await switcher.generate()
    await vi.waitFor(() => expect(find(switcher, '.detail')!.textContent).toMatch(/^1 token, 3\.0 ms/))
    switcher.maxNewTokens = undefined
    await switcher.generate()
    expect(switcher.state.tokens).toHaveLength(120)
    removeAll()
    const slow = await place()
    await slow.generate()
    expect(slow.state.tokens).toHaveLength(32)
  })

  test('a screen reader hears whole sentences', async () => {
    const switcher = await place({ tokenMs: 5, text: ' One. Two and' })
    switcher.maxNewTokens = 1000
    const written = switcher.generate()
    await vi.waitFor(() => expect(switcher.state.tokens.length).toBeGreaterThan(4))
    expect(find(switcher, '[role=log]')!.textContent).toMatch(/\.$/)
    switcher.stop()
    await written
  })
})

describe('pens', () => {
  test('number keys choose, but not while the prompt is typed', async () => {
    const log: string[] = []
    const switcher = await place({ log })
    await userEvent.keyboard('4')
    await vi.waitFor(() => expect(log).toEqual(['load css', 'activate css']))
    find<HTMLTextAreaElement>(switcher, 'textarea')!.focus()
    await userEvent.keyboard('2')
    expect(switcher.prompt).toBe('Once2')
    expect(log).toHaveLength(2)
    ;(document.activeElement as HTMLElement).blur()
    await userEvent.keyboard('1')
    await vi.waitFor(() => expect(log.at(-1)).toBe('deactivate'))
    expect(switcher.state.inHand.label).toBe('Base')
  })

  test('of quick choices the last one wins, also if its bytes come first', async () => {
    const log: string[] = []
    const switcher = await place({ slowExperts: { austen: 200 }, log })
    const [, austen, bard] = switcher.state.pens
    await Promise.all([switcher.state.choose(austen!), switcher.state.choose(bard!)])
    expect(log).toEqual(['load bard', 'activate bard', 'load austen'])
    expect(switcher.state.inHand).toBe(bard)
    // It is here now: chosen again, it is not fetched again.
    await switcher.state.choose(austen!)
    expect(log.slice(3)).toEqual(['activate austen'])
  })

  test('an error stands at its card, the pen in hand stays, and trying again works', async () => {
    const fake: FakeOptions = { failExpert: 'bard' }
    const switcher = await place(fake)
    await switcher.state.choose(switcher.state.pens[1]!)
    await switcher.state.choose(switcher.state.pens[2]!)
    await switcher.updateComplete
    await vi.waitFor(() => expect(all(switcher, '[role=alert]')).toHaveLength(1))
    const alert = find(switcher, '.pen:nth-of-type(3) [role=alert]')!
    expect(alert.textContent).toContain('Cannot use bard: expected an expert of base')
    expect(switcher.state.inHand.id).toBe('austen')
    expect(all<HTMLInputElement>(switcher, '[type=radio]').map((input) => input.checked)).toEqual([
      false,
      true,
      false,
      false,
    ])
    fake.failExpert = undefined
    button(switcher, 'Try again')!.click()
    await vi.waitFor(() => expect(switcher.state.inHand.id).toBe('bard'))
    await switcher.updateComplete
    await vi.waitFor(() => expect(find(switcher, '[role=alert]')).toBeUndefined())
  })

  test('the download of an expert can be stopped', async () => {
    const switcher = await place({ expertMs: 60_000 })
    const chosen = switcher.state.choose(switcher.state.pens[3]!)
    await vi.waitFor(() => expect(button(switcher, 'Stop')).toBeDefined())
    button(switcher, 'Stop')!.click()
    await chosen
    expect(switcher.state.pens[3]).toMatchObject({ place: 'network', error: undefined })
    expect(switcher.state.chosen.label).toBe('Base')
  })

  test('what a registry says is text', async () => {
    const switcher = await place()
    await vi.waitFor(() => expect(all(switcher, '.about')).toHaveLength(4))
    expect(all(switcher, '.about')[1]!.textContent).toContain('<img src=x')
    expect(all(switcher, 'img')).toEqual([])
  })

  test('of a registry with thousands of experts a hundred cards are drawn, and those in hand', async () => {
    const experts = Array.from({ length: 10_000 }, (_, i) => ({ ...REGISTRY.experts[0], id: `e${i}` }))
    const registry = new Blob([JSON.stringify({ version: 1, experts })])
    ExpertSwitcher.createLoader = fakeLoader()
    const switcher = document.createElement('expert-switcher')
    switcher.experts = URL.createObjectURL(registry)
    document.body.append(switcher)
    await switcher.load()
    await vi.waitFor(() => expect(switcher.state.pens).toHaveLength(10_001))
    await switcher.updateComplete
    const cards = () => all(switcher, '.pen').length
    await vi.waitFor(() => expect(cards()).toBe(100))
    button(switcher, 'Show 100 of 9901 more')!.click()
    await vi.waitFor(() => expect(cards()).toBe(200))
    await switcher.activate('e9999')
    await vi.waitFor(() => expect(cards()).toBe(201))
  })

  test('the last switch shows its phases and, with the next token, the first one', async () => {
    const switcher = await place({ expertMs: 20, tokenMs: 1 })
    await switcher.state.choose(switcher.state.pens[1]!)
    await vi.waitFor(() => expect(find(switcher, 'h2')!.textContent).toBe('AUSTEN put on in 2.4 ms'))
    const figures = () => all(switcher, 'dd').map((element) => element.textContent)
    expect(figures()).toEqual(['2.4 ms', '20 ms', '1.0 ms', '1.7 ms', '0 ms', 'not written yet'])
    switcher.maxNewTokens = 1
    await switcher.generate()
    await vi.waitFor(() => expect(figures().at(-1)).toBe('1.0 ms'))
  })

  test('the first token may come before the GPU’s end is measured', async () => {
    let end = () => {}
    const gpuEnd = new Promise<void>((resolve) => {
      end = resolve
    })
    const log: string[] = []
    const switcher = await place({ gpuEnd, log, tokenMs: 1 })
    switcher.maxNewTokens = 1
    const chosen = switcher.state.choose(switcher.state.pens[1]!)
    await vi.waitFor(() => expect(log.at(-1)).toMatch(/^activate/))
    await switcher.generate()
    expect(find(switcher, 'h2')!.textContent).toBe('No switch yet')
    end()
    await chosen
    await vi.waitFor(() => expect(all(switcher, 'dd').at(-1)!.textContent).toBe('1.0 ms'))
  })

  test('another compression of a listed expert is a choice on its card', async () => {
    const [austen] = REGISTRY.experts
    const log: string[] = []
    const switcher = await place({ log })
    switcher.state.setRegistry([
      { ...austen!, id: 'austen-2', bytes: 99_000, density: 0.02, variantOf: 'austen' },
      austen!,
      { ...austen!, id: 'lost', variantOf: 'elsewhere' },
    ])
    expect(switcher.state.pens.map(({ id }) => id)).toEqual(['', 'austen', 'lost'])
    await switcher.state.choose(switcher.state.pens[1]!)
    await vi.waitFor(() => expect(find(switcher, '.variants')).toBeDefined())
    const sizes = find<HTMLSelectElement>(switcher, '.variants')!
    expect([...sizes.options].map(({ text }) => text)).toEqual(['190 kB', '99 kB'])
    sizes.selectedIndex = 1
    sizes.dispatchEvent(new Event('change'))
    await vi.waitFor(() => expect(log.at(-1)).toBe('activate austen-2'))
    expect(switcher.state.pens[1]!.id).toBe('austen-2')
  })

  test('a registry that cannot be read is said beside the pens; the base stays usable', async () => {
    const switcher = await place()
    switcher.experts = 'data:application/json,{'
    await vi.waitFor(() => expect(find(switcher, '.problem')!.textContent).toMatch(/JSON/))
    switcher.maxNewTokens = 2
    await switcher.generate()
    expect(switcher.state.tokens).toHaveLength(2)
  })
})

describe('mix', () => {
  const slide = (switcher: ExpertSwitcher, id: string, value: number) => {
    const slider = find<HTMLInputElement>(switcher, `#${id}`)!
    slider.value = String(value)
    slider.dispatchEvent(new Event('input'))
  }

  test('a slider in mid-sentence changes the weight of the next token', async () => {
    const switcher = await place({ tokenMs: 5 })
    await switcher.activate('bard')
    switcher.maxNewTokens = 30
    const written = switcher.generate()
    await vi.waitFor(() => expect(switcher.state.tokens.length).toBeGreaterThan(2))
    slide(switcher, 'strength', 0.5)
    await written
    expect(new Set(switcher.state.tokens.map(({ pens }) => pens[0]!.weight))).toEqual(new Set([1, 0.5]))
    expect(switcher.alpha).toBe(0.5)
  })

  test('two pens write in the ink of the heavier one, underlined with that of the other', async () => {
    const log: string[] = []
    const switcher = await place({ log })
    await switcher.activate([
      { id: 'austen', weight: 0.25 },
      { id: 'css', weight: 0.75 },
    ])
    expect(log.at(-1)).toBe('activate css × 0.75 + austen × 0.25')
    switcher.maxNewTokens = 2
    await switcher.generate()
    await switcher.updateComplete
    await vi.waitFor(() => expect(find(switcher, '.run.blend')!.dataset.ink).toBe('3'))
    expect(find(switcher, '.run.blend')!.style.getPropertyValue('--ink-under')).toBe('var(--ink-1)')
    slide(switcher, 'share', 100)
    await vi.waitFor(() => expect(log.at(-1)).toBe('activate css'))
    // The other one is not forgotten at the end of the slider.
    await vi.waitFor(() => expect(find<HTMLSelectElement>(switcher, '#second')!.value).toBe('CSS'))
    slide(switcher, 'strength', 0)
    await vi.waitFor(() => expect(log.at(-1)).toBe('deactivate'))
    expect(switcher.active).toEqual(['austen', 'css'])
  })

  test('the margin names both pens of a blend, each with its part', async () => {
    const switcher = await place()
    await switcher.activate([
      { id: 'css', weight: 0.75 },
      { id: 'bard', weight: 0.25 },
    ])
    switcher.maxNewTokens = 1
    await switcher.generate()
    await vi.waitFor(() => expect(find(switcher, '.mark')!.textContent).toBe('CSS 75 % + BARD 25 %'))
  })

  test('by keyboard: a second pen, then its share', async () => {
    const log: string[] = []
    const switcher = await place({ log })
    await switcher.activate('austen')
    await switcher.updateComplete
    const summary = find(switcher, 'summary')!
    summary.focus()
    await userEvent.keyboard('{Enter}')
    const second = find<HTMLSelectElement>(switcher, '#second')!
    second.focus()
    await userEvent.selectOptions(second, 'BARD')
    await vi.waitFor(() => expect(log.at(-1)).toBe('activate austen × 0.5 + bard × 0.5'))
    await vi.waitFor(() => expect(find(switcher, '#share')).toBeDefined())
    find(switcher, '#share')!.focus()
    await userEvent.keyboard('{ArrowRight}')
    await vi.waitFor(() => expect(log.at(-1)).toBe('activate bard × 0.55 + austen × 0.45'))
  })
})

describe('from a page', () => {
  test('what is active can be said before there is anything', async () => {
    const switcher = await place({}, { ready: false })
    switcher.setAttribute('active', 'bard')
    switcher.setAttribute('alpha', '0.5')
    expect(switcher.state.held).toEqual([])
    await switcher.load()
    await vi.waitFor(() => expect(switcher.state.held).toMatchObject([{ pen: { id: 'bard' }, weight: 0.5 }]))
    expect(switcher.active).toEqual(['bard'])
  })

  test('an expert that is not listed is an error that names those that are', async () => {
    const switcher = await place()
    await expect(switcher.activate('dante')).rejects.toThrow(
      'Cannot activate dante: expected one of austen, bard, css',
    )
    expect(switcher.active).toEqual([])
  })

  test('two with one model share an engine; each writes with its own experts', async () => {
    const log: string[] = []
    const fake = { log, tokenMs: 5, baseMs: 30 }
    const first = await place(fake, { ready: false })
    const create = ExpertSwitcher.createLoader
    const second = await place(fake, { ready: false })
    ExpertSwitcher.createLoader = create
    await Promise.all([first.load(), second.load()])
    expect(first.state.loader).toBe(second.state.loader)
    await Promise.all([first.activate('austen'), second.activate('bard')])
    first.maxNewTokens = second.maxNewTokens = 25
    const written = Promise.all([first.generate(), second.generate()])
    await vi.waitFor(() => expect(second.state.tokens.length).toBeGreaterThan(4))
    await second.activate('css')
    await written
    const pens = (switcher: ExpertSwitcher) => [
      ...new Set(switcher.state.tokens.map((token) => token.pens[0]!.pen.id)),
    ]
    expect(pens(first)).toEqual(['austen'])
    expect(pens(second)).toEqual(['bard', 'css'])
    expect(second.state.tokens).toHaveLength(25)
    second.remove()
    await vi.waitFor(() => expect(log).toContain('release css'))
    expect(log).not.toContain('dispose')
    await first.generate()
    expect(first.state.tokens).toHaveLength(25)
    first.remove()
    await vi.waitFor(() => expect(log.at(-1)).toBe('dispose'))
  })

  test('one that writes alone goes on with its own experts when another joins', async () => {
    const first = await place({ tokenMs: 5 })
    await first.activate('austen')
    first.maxNewTokens = 40
    const written = first.generate()
    const create = ExpertSwitcher.createLoader
    const second = await place({}, { ready: false })
    ExpertSwitcher.createLoader = create
    await second.load()
    await second.activate('css')
    await written
    expect(first.state.tokens.map(({ pens }) => pens[0]!.pen.id)).toEqual(Array(40).fill('austen'))
  })

  test('one of two can stop waiting for the base', async () => {
    const first = await place({ baseMs: 60_000 }, { ready: false })
    const create = ExpertSwitcher.createLoader
    const second = await place({}, { ready: false })
    ExpertSwitcher.createLoader = create
    const loads = [first.load(), second.load()]
    await vi.waitFor(() => expect(second.state.status).toBe('loading'))
    first.state.close()
    await loads[0]
    expect([first.state.status, second.state.status]).toEqual(['idle', 'loading'])
    second.state.close()
    await loads[1]
    expect(second.state.status).toBe('idle')
  })
})

describe('the base', () => {
  test('is asked for with a button, fills a bar, and can be stopped and started again', async () => {
    const switcher = await place({ baseMs: 60_000 }, { ready: false })
    button(switcher, 'Load the base')!.click()
    await vi.waitFor(() => expect(find(switcher, '[role=progressbar]')).toBeDefined())
    button(switcher, 'Stop')!.click()
    await vi.waitFor(() => expect(button(switcher, 'Load the base')).toBeDefined())
    ExpertSwitcher.createLoader = fakeLoader()
    button(switcher, 'Load the base')!.click()
    await vi.waitFor(() => expect(switcher.state.status).toBe('ready'))
  })

  test('that fails says why and offers one button', async () => {
    const failBase = new TritswapError('network', 'Cannot read model.trit: expected 200, found 404')
    const switcher = await place({ failBase })
    const alert = find(switcher, '[role=alert]')!
    expect(alert.textContent).toContain('Cannot read model.trit: expected 200, found 404')
    ExpertSwitcher.createLoader = fakeLoader()
    button(switcher, 'Try again')!.click()
    await vi.waitFor(() => expect(switcher.state.status).toBe('ready'))
  })

  test('without WebGPU the page says what to do', async () => {
    const failBase = new TritswapError('webgpu', 'Cannot start: no adapter')
    const switcher = await place({ failBase })
    expect(find(switcher, '[role=alert]')!.textContent).toMatch(/WebGPU is missing.*Firefox/s)
  })

  test('a device without f16 is told so, not that WebGPU is missing', async () => {
    const message = 'Cannot run a graph with f16 weights: this GPU lacks shader-f16; use another dtype'
    const switcher = await place({
      failBase: new TritswapError('webgpu', message, { fields: { missing: 'shader-f16' } }),
    })
    const { textContent } = find(switcher, '[role=alert]')!
    expect(textContent).toContain(message)
    expect(textContent).not.toContain('WebGPU is missing')
  })

  test('comes back by itself when its device is lost, and the text goes on with the pen in hand', async () => {
    const log: string[] = []
    const errors: Error[] = []
    const switcher = await place({ lose: 2, log })
    switcher.addEventListener('error', ({ detail }) => errors.push(detail))
    await switcher.activate('bard')
    switcher.maxNewTokens = 9
    await switcher.generate()
    const { tokens, status, restarting, writingProblem } = switcher.state
    expect(tokens.map(({ pens }) => pens[0]!.pen.id)).toEqual(Array(9).fill('bard'))
    expect({ status, restarting, writingProblem, errors }).toEqual({
      status: 'ready',
      restarting: false,
      writingProblem: '',
      errors: [],
    })
  })

  test('that is lost again and again is asked for, and comes with the pen that was in hand', async () => {
    const switcher = await place({ lose: 99, loseAfter: 0 })
    await switcher.activate('bard')
    await switcher.generate()
    expect(find(switcher, '.state h2')!.textContent).toBe('The GPU was lost')
    ExpertSwitcher.createLoader = fakeLoader()
    button(switcher, 'Start again')!.click()
    await vi.waitFor(() => expect(switcher.state.held).toMatchObject([{ pen: { id: 'bard' }, weight: 1 }]))
    expect(switcher.state.status).toBe('ready')
  })

  test('leaves with the element', async () => {
    const log: string[] = []
    const switcher = await place({ log })
    switcher.remove()
    await vi.waitFor(() => expect(log).toEqual(['dispose']))
  })
})

describe('in the life of a page', () => {
  test('an element that is moved keeps base and text; one that is put back loads again', async () => {
    const log: string[] = []
    const switcher = await place({ log })
    await switcher.generate()
    const written = switcher.state.tokens.length
    expect(written).toBeGreaterThan(0)
    const other = document.createElement('section')
    document.body.append(other)
    other.append(switcher)
    await switcher.updateComplete
    expect(switcher.state.status).toBe('ready')
    expect(switcher.state.tokens).toHaveLength(written)
    await switcher.generate()
    switcher.autoload = true
    other.remove()
    await vi.waitFor(() => expect(switcher.state.status).toBe('idle'))
    document.body.append(switcher)
    await vi.waitFor(() => expect(switcher.state.status).toBe('ready'))
  })

  test('autoload that is set later loads; generate waits for the base', async () => {
    const later = await place({}, { ready: false })
    expect(later.state.status).toBe('idle')
    later.autoload = true
    await vi.waitFor(() => expect(later.state.status).toBe('ready'))
    const early = await place({ baseMs: 20 }, { ready: false })
    await early.generate()
    expect(early.state.tokens.length).toBeGreaterThan(0)
  })

  test('another model is loaded in place of the one before, with the pens in hand', async () => {
    const models: string[] = []
    const switcher = await place()
    await switcher.activate('bard')
    const create = fakeLoader()
    ExpertSwitcher.createLoader = (options) => {
      models.push(String(options.model))
      return create(options)
    }
    switcher.model = 'https://models.example/other/'
    await vi.waitFor(() => expect(models).toEqual(['https://models.example/other/']))
    await vi.waitFor(() => expect(switcher.state.held).toMatchObject([{ pen: { id: 'bard' } }]))
    expect(switcher.state.status).toBe('ready')
  })

  test('an element that is removed before its first update never loads', async () => {
    let made = 0
    const create = fakeLoader()
    ExpertSwitcher.createLoader = (options) => {
      made++
      return create(options)
    }
    const switcher = document.createElement('expert-switcher')
    switcher.autoload = true
    document.body.append(switcher)
    switcher.remove()
    await switcher.updateComplete
    await new Promise((resolve) => setTimeout(resolve))
    expect([made, switcher.state.status]).toEqual([0, 'idle'])
  })
})
