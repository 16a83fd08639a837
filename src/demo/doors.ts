/**
 * What the page can be opened for. Each door is an address, so that it can be linked to, and going through another one
 * frees the memory of the model that was loaded.
 *
 * @module
 */
import { html, render } from 'lit'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { formatBytes } from '../element/units.ts'
import { bytesToFetch, type DownloadSize, downloadSize } from '../loader/download_size.ts'

/** What the switcher of a door is set to. */
type Setting = Pick<ExpertSwitcher, 'model' | 'experts'> &
  Partial<Pick<ExpertSwitcher, 'mode' | 'prompt' | 'temperature' | 'autoload'>>

interface Door {
  name: string
  about: string
  /** The query of its address. */
  search: string
  setting: Setting
  /** Where the model is described. */
  card: string
}

const DOORS: readonly Door[] = [
  {
    name: 'Writers',
    about: 'A small model of stories, and the authors it can turn into.',
    search: '',
    setting: {
      model: './models/demo',
      experts: './experts/experts.json',
      prompt: 'Once upon a time',
      temperature: 0.8,
      autoload: true,
    },
    card: './models/demo/MODEL_CARD.md',
  },
  {
    name: 'Skills',
    about: 'An assistant of 135 M weights, and skills that it can put on.',
    search: '?skills',
    setting: { model: './models/smollm2', experts: './experts/smollm2/experts.json', mode: 'chat' },
    card: './models/smollm2/MODEL_CARD.md',
  },
]

/** The door of this address; undefined where it names a base of its own. */
export function doorOf(search: string): Door | undefined {
  const query = new URLSearchParams(search)
  if (query.has('model')) return undefined
  return DOORS.find((door) => door.search !== '' && query.has(door.search.slice(1))) ?? DOORS[0]
}

/** Sets the switcher to what the address asks for: a door, or `?model=…&experts=…&mode=chat` for any base. */
export function openDoor(switcher: ExpertSwitcher, search: string): void {
  const query = new URLSearchParams(search)
  const setting = doorOf(search)?.setting ?? {
    model: query.get('model')!,
    experts: query.get('experts') ?? '',
    mode: query.get('mode') === 'chat' ? 'chat' : 'manuscript',
  }
  Object.assign(switcher, setting)
}

/** Shows the doors as links, each with the bytes that it fetches, once they are known. */
export function showDoors(place: HTMLElement, search: string): void {
  const open = doorOf(search)
  const sizes = new Map<Door, DownloadSize>()
  const draw = () =>
    render(
      DOORS.map(
        (door) =>
          html`<a href="./${door.search}" aria-current=${door === open ? 'page' : 'false'}
            ><b>${door.name}</b> <span class="bytes">${sizeText(sizes.get(door))}</span>
            <span class="about">${door.about}</span></a
          >`,
      ),
      place,
    )
  draw()
  for (const door of DOORS) {
    void downloadSize({ model: door.setting.model }).then((size) => {
      sizes.set(door, size)
      draw()
    })
  }
}

function sizeText(size: DownloadSize | undefined): string {
  if (size?.base === undefined) return ''
  return size.kept >= size.base ? 'kept on this device' : formatBytes(bytesToFetch(size))
}
