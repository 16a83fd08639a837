/**
 * The recorded run of a door on the page's first screen, and how it becomes live.
 *
 * @module
 */
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { RecordedRun } from './recorded_run.ts'
import { type RecordedVoice, type Recording, readRecording } from './recording.ts'

customElements.define('trit-recorded-run', RecordedRun)

/**
 * Shows a recorded run while the switcher has no base. Where it cannot be read, the switcher alone says what there is to do.
 * @param url - of the recording, relative to the page
 */
export async function showRecordedRun(switcher: ExpertSwitcher, url: string): Promise<void> {
  const shown = document.createElement('trit-recorded-run') as RecordedRun
  shown.slot = 'before'
  // At once: it keeps its room until the recording is here.
  switcher.append(shown)
  switcher.requestUpdate()
  const recording = await readRecording(url).catch(() => undefined)
  if (recording === undefined) {
    shown.remove()
    switcher.requestUpdate()
    return
  }
  shown.recording = recording
  shown.addEventListener('live', (event) => {
    const { id } = (event as CustomEvent<RecordedVoice>).detail
    void goLive(switcher, id, recording)
  })
}

/** Loads the base, takes the pen, and lets it write what it wrote in the recording. */
async function goLive(
  switcher: ExpertSwitcher,
  id: string,
  { begin, temperature, seed }: Recording,
): Promise<void> {
  const { state, mode } = switcher
  try {
    if (temperature > 0) Object.assign(switcher, { temperature, seed })
    await switcher.activate(id === '' ? [] : [id])
    if (mode === 'chat') await switcher.ask(begin, { fresh: true })
    else {
      switcher.prompt = begin
      await switcher.generate()
    }
  } catch (error) {
    state.registryFailed(error)
  }
}
