import { html, nothing, render } from 'lit'
import { toError } from '../src/errors.ts'
import { connectWorker, startWorker, type WorkerLink } from '../src/rpc/index.ts'
import { measureDemo } from './demo.ts'
import type { KernelChecks } from './kernels.ts'
import { divisorFor, figuresOf, listOf, MODELS, timeOf, VRAM_CHOICES } from './models.ts'
import { type Findings, reportOf } from './report.ts'

/** One line of the list. */
interface Step {
  name: string
  state: 'waiting' | 'running' | 'right' | 'wrong' | 'failed'
  detail: string
}

/**
 * How much is done: a CPU that plays GPU takes a hundred times as long. An address may ask for other numbers,
 * `?cases=1&rounds=1&tokens=2&vram=4`, and for some of the kernels, `?kernels=fused,terms`.
 */
const AMOUNTS = {
  software: { cases: 4, rounds: 3, tokens: 3, modelRounds: 1 },
  hardware: { cases: 64, rounds: 20, tokens: 64, modelRounds: 8 },
}
const SIGNS = { waiting: '', running: 'running', right: 'right', wrong: 'wrong', failed: 'failed' }

const root = document.querySelector<HTMLElement>('#check')!
let steps: Step[] = []
let running: AbortController | undefined
let report: string | undefined
let isCopied = false
const asked = new URLSearchParams(location.search)
/** MB that lists of whole models may take. */
let vram = Number(asked.get('vram')) || VRAM_CHOICES[1]
const choices = [...new Set([...VRAM_CHOICES, vram])].sort((a, b) => a - b)

function draw(): void {
  render(
    html`
      <p>
        Runs every kernel of tritswap on this GPU against a reference on the CPU, switches random experts on the tensors of
        whole models, then experts of the demo's base, and writes a few words. It fetches some 12 MB, takes a minute or so
        (several where a CPU plays GPU), and sends nothing anywhere.
      </p>
      <label>
        Video memory for the tensors of a model, at most
        <select ?disabled=${running !== undefined} @change=${choose}>
          ${choices.map((mb) => html`<option value=${mb} ?selected=${mb === vram}>${mb} MB</option>`)}
        </select>
      </label>
      <div class="actions">
        <button ?disabled=${running !== undefined} @click=${start}>Start</button>
        <button ?disabled=${running === undefined} @click=${stop}>Stop</button>
        <button ?disabled=${report === undefined} @click=${copy}>${isCopied ? 'Copied' : 'Copy the report'}</button>
      </div>
      <ol aria-label="Checks">
        ${steps.map(
          ({ name, state, detail }) => html`
            <li class=${state === 'wrong' || state === 'failed' ? 'failed' : state}>
              <span>${SIGNS[state]}</span>
              <span>${name}${detail === '' ? nothing : html`: ${detail}`}</span>
            </li>
          `,
        )}
      </ol>
      <div role="status">${report === undefined ? nothing : 'The check has finished.'}</div>
      ${report === undefined ? nothing : html`<pre tabindex="0" aria-label="Report">${report}</pre>`}
    `,
    root,
  )
}

async function start(): Promise<void> {
  const stopping = new AbortController()
  running = stopping
  report = undefined
  isCopied = false
  const device: Step = { name: 'This GPU', state: 'waiting', detail: '' }
  const kernels: Step = { name: 'Kernels', state: 'waiting', detail: '' }
  const demo: Step = { name: 'The demo', state: 'waiting', detail: '' }
  const models = MODELS.map((model) => ({
    ...model,
    step: { name: model.name, state: 'waiting', detail: '' } as Step,
  }))
  steps = [device, kernels, ...models.map(({ step }) => step), demo]
  const findings: Findings = { kernels: {}, cases: 0, vram, models: [], errors: [], isStopped: false }
  const worker = kernelWorker()
  stopping.signal.addEventListener('abort', () => worker.terminate(stopping.signal.reason))
  const { api } = worker
  await attempt(device, findings, stopping.signal, async () => {
    findings.facts = await api.facts()
    const { adapter } = findings.facts
    const name = adapter.description || [adapter.vendor, adapter.architecture].filter(Boolean).join(' ')
    device.detail = `${name || 'the browser does not say which'}, ${adapter.software ? 'software' : 'hardware'}`
    return true
  })
  const { facts } = findings
  if (facts !== undefined) {
    const usual = AMOUNTS[facts.adapter.software ? 'software' : 'hardware']
    const amount = (of: keyof typeof usual) => Number(asked.get(of)) || usual[of]
    const cases = amount('cases')
    findings.cases = cases
    await attempt(kernels, findings, stopping.signal, async () => {
      const all = await api.names()
      const some = asked.get('kernels')?.split(',')
      const names = some === undefined ? all : all.filter((name) => some.includes(name))
      for (const [i, name] of names.entries()) {
        show(kernels, `${name}, ${i + 1} of ${names.length}`)
        findings.kernels[name] = await api.check(name, cases)
      }
      const wrong = names.filter((name) => findings.kernels[name].length > 0)
      kernels.detail =
        wrong.length === 0
          ? `all ${names.length} match their references`
          : `do not match their references: ${wrong.join(', ')}`
      return wrong.length === 0
    })
    for (const { model, name, step } of models) {
      await attempt(step, findings, stopping.signal, async () => {
        const divisor = divisorFor(model, vram * 1e6)
        const cases = await api.switches(model, divisor, amount('modelRounds'))
        const figures = figuresOf(name, divisor, cases)
        findings.models.push(figures)
        const change = figures.cases.find((one) => one.switch === 'A to B')!
        step.detail = `${listOf(figures)}: a switch takes ${timeOf(change).toFixed(1)} ms`
        return true
      })
    }
    // One device at a time: a phone may not have room for two.
    await api.dispose().catch(() => {})
    worker.terminate()
    await attempt(demo, findings, stopping.signal, async () => {
      const folder = new URL('.', document.baseURI).href
      const onStep = (step: string) => show(demo, step)
      findings.demo = await measureDemo({
        folder,
        rounds: amount('rounds'),
        tokens: amount('tokens'),
        signal: stopping.signal,
        onStep,
      })
      const { switches, tokensPerSecond, isRestored } = findings.demo
      demo.detail = isRestored
        ? `a switch takes ${switches.change.toFixed(1)} ms, ${tokensPerSecond.base.toFixed(1)} tokens a second`
        : 'after a switch and back, the weights are not those of the base'
      return isRestored
    })
  }
  worker.terminate()
  running = undefined
  report = reportOf(findings)
  draw()
}

/** Runs a step, and notes how it ended. @param run - whether what was found is right */
async function attempt(
  step: Step,
  findings: Findings,
  signal: AbortSignal,
  run: () => Promise<boolean>,
): Promise<void> {
  if (signal.aborted) return
  step.state = 'running'
  draw()
  try {
    step.state = (await run()) ? 'right' : 'wrong'
  } catch (error) {
    step.state = 'failed'
    findings.isStopped = signal.aborted
    step.detail = signal.aborted ? 'stopped' : toError(error).message
    if (!signal.aborted) findings.errors.push(`${step.name}: ${step.detail}`)
  }
  draw()
}

function choose({ target }: Event): void {
  vram = Number((target as HTMLSelectElement).value)
}

function show(step: Step, detail: string): void {
  step.detail = detail
  draw()
}

function stop(): void {
  running?.abort(new DOMException('The check was stopped', 'AbortError'))
}

async function copy(): Promise<void> {
  await navigator.clipboard.writeText(report!)
  isCopied = true
  draw()
}

function kernelWorker(): WorkerLink<KernelChecks> {
  const worker = startWorker(
    (Worker) => new Worker(new URL('./kernels.ts', import.meta.url), { type: 'module' }),
  )
  return connectWorker<KernelChecks>(worker, 'worker of the check')
}

draw()
