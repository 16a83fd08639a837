import { html, nothing, render } from 'lit'
import { formatBytes } from '../element/units.ts'
import { openChunkCache } from '../source/cache.ts'

/**
 * Says what this browser keeps for the next visit, with a button that forgets it.
 * @returns looks again
 */
export function showKept(place: HTMLElement, forgotten: () => void): () => Promise<void> {
  const cache = openChunkCache()
  const draw = async () => {
    const available = await cache.available().catch(() => false)
    const files = available ? await cache.list().catch(() => []) : []
    const bytes = files.reduce((sum, { cachedBytes }) => sum + cachedBytes, 0)
    render(
      html`<p>
        ${
          available
            ? bytes === 0
              ? 'Nothing is kept in this browser yet. The model, and the file of each pen you try, will be kept for your next visit.'
              : `Kept in this browser for your next visit: ${formatBytes(bytes)}, ${files.length === 1 ? 'one file' : `${files.length} files`}.`
            : 'This browser does not keep anything here for your next visit.'
        }
      </p>
      ${bytes === 0 ? nothing : html`<button @click=${forget}>Forget all of it</button>`}`,
      place,
    )
  }
  const forget = async () => {
    await cache.clear()
    forgotten()
    await draw()
  }
  return draw
}
