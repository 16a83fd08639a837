/** In a browser that nobody drives (`?asked`), the page asks the server for the call to make, and says what came of it. */
import type { Answer, Asked } from './browsers.ts'

if (location.search === '?asked') {
  const { name, job } = (await (await fetch('/asked')).json()) as Asked
  const answer: Answer = await window.compat[name](job!).then(
    (result) => ({ result }),
    (error) => ({ error: String(error) }),
  )
  await fetch('/answer', { method: 'POST', body: JSON.stringify(answer) })
}
