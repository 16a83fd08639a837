import '../element/define.ts'
import { formatBytes } from '../element/units.ts'
import { doorOf, isOwn, openDoor, showDoors } from './doors.ts'
import { showRecordedRun } from './first_screen.ts'
import { showKept } from './kept.ts'
import { linkAddress } from './link.ts'
import { vramParts } from './vram.ts'

const switcher = document.querySelector('expert-switcher')!
const chip = document.querySelector('#adapter')!
const vram = document.querySelector('#vram')!
const below = document.querySelector<HTMLElement>('#below')!

switcher.addEventListener('change', () => {
  const { info, stats } = switcher.state
  if (info === undefined) return
  const { adapter } = info
  const name = adapter.description || [adapter.vendor, adapter.architecture].filter(Boolean).join(' ')
  const kind = adapter.software ? 'software' : 'hardware'
  const used = stats === undefined ? '' : ` · ${formatBytes(stats.vram.total)} of VRAM`
  chip.textContent = `${name || 'WebGPU'} · ${kind}${used}`
  if (stats !== undefined) showVram(stats.vram)
})

/** Draws the parts of the VRAM as bars to one scale. */
function showVram(parts: Parameters<typeof vramParts>[0]): void {
  const shown = vramParts(parts)
  const most = Math.max(...shown.map(([, bytes]) => bytes))
  const rows = shown.map(([name, bytes]) => {
    const row = document.createElement('div')
    const meter = document.createElement('meter')
    meter.max = most
    meter.value = bytes
    meter.ariaLabel = name
    const label = document.createElement('span')
    label.textContent = name
    const figure = document.createElement('span')
    figure.textContent = formatBytes(bytes)
    row.append(label, meter, figure)
    return row
  })
  vram.replaceChildren(...rows)
}

const { search } = location
openDoor(switcher, search)
showDoors(document.querySelector<HTMLElement>('#doors')!, search)
const recording = doorOf(search)?.recording
if (recording !== undefined) void showRecordedRun(switcher, recording)
const notice = document.querySelector('#notice')!
linkAddress(switcher, (text) => {
  notice.textContent = text
})
if (isOwn(search)) {
  const own = document.querySelector<HTMLElement>('#own')!
  void import('./own_door.ts').then(({ showOwn }) => showOwn(own, switcher))
}

// What is missing is said at once; it takes no request to find out.
if (!('gpu' in navigator)) void switcher.load()

const drawKept = showKept(
  document.querySelector<HTMLElement>('#kept')!,
  () => void switcher.state.forgotten(),
)
chip.parentElement!.addEventListener('toggle', () => void drawKept())

new IntersectionObserver(
  async ([entry], observer) => {
    if (!entry?.isIntersecting) return
    observer.disconnect()
    const { showBelow } = await import('./below.ts')
    showBelow(below, switcher)
  },
  { rootMargin: '-1px' },
).observe(below)
