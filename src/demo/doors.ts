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
  Partial<Pick<ExpertSwitcher, 'mode' | 'prompt' | 'temperature'>>

interface Door {
  name: string
  about: string
  /** The query of its address. */
  search: string
  setting: Setting
  /** Where the model is described. */
  card: string
  /** Recorded run of this door. */
  recording?: string
}

const DOORS: readonly Door[] = [
  {
    name: 'Writers',
    about: 'A small model of stories, and the authors it can become.',
    search: '',
    setting: {
      model: './models/demo',
      experts: './experts/experts.json',
      prompt: 'The king said',
      temperature: 0.7,
    },
    card: './models/demo/MODEL_CARD.md',
    recording: './recorded/writers.json',
  },
  {
    name: 'Skills',
    about: 'A 135 M assistant, and skills it can put on.',
    search: '?skills',
    setting: { model: './models/smollm2', experts: './experts/smollm2/experts.json', mode: 'chat' },
    card: './models/smollm2/MODEL_CARD.md',
    recording: './recorded/skills.json',
  },
  {
    name: 'Your own',
    about: 'Turn your LoRA or fine-tune into a small file.',
    search: '?own',
    setting: { model: './models/smollm2', experts: './experts/smollm2/experts.json', mode: 'chat' },
    card: './models/smollm2/MODEL_CARD.md',
  },
]

/** Bases that the visitor's own files may be for, those that are on this site. */
export const OWN_BASES = [
  { name: 'SmolLM2-135M-Instruct', ...DOORS[1]!.setting },
  { name: 'the small model of stories', ...DOORS[0]!.setting },
]

/** Whether the address is that of the door for the visitor's own files. */
export function isOwn(search: string): boolean {
  return new URLSearchParams(search).has('own')
}

/** The address of that door for a base. */
export function addressOfOwn(model: string): string {
  return model === OWN_BASES[0]!.model ? '?own' : `?own&model=${encodeURIComponent(model)}`
}

/** The door of this address; undefined where it names a base of its own. */
export function doorOf(search: string): Door | undefined {
  const query = new URLSearchParams(search)
  if (query.has('model') && !isOwn(search)) return undefined
  return DOORS.find((door) => door.search !== '' && query.has(door.search.slice(1))) ?? DOORS[0]
}

/** Sets the switcher to what the address asks for: a door, or `?model=…&experts=…&mode=chat` for any base. */
export function openDoor(switcher: ExpertSwitcher, search: string): void {
  const query = new URLSearchParams(search)
  const model = query.get('model')
  const setting =
    model === null
      ? doorOf(search)!.setting
      : ([...DOORS].find((door) => door.setting.model === model)?.setting ?? {
          model,
          experts: query.get('experts') ?? '',
          mode: query.get('mode') === 'chat' ? 'chat' : 'manuscript',
          auto: query.has('auto'),
          integrity: query.get('integrity') ?? undefined,
          signedBy: query.get('signed-by') ?? undefined,
        })
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
  return size.kept >= size.base ? 'already on this device' : formatBytes(bytesToFetch(size))
}
