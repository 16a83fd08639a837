/** In a browser without a driver (`?asked`), the page asks the server which call to make and sends the result back. */
import type { Answer, Asked } from './browsers.ts'

if (location.search === '?asked') {
  const { name, job } = (await (await fetch('/asked')).json()) as Asked
  const answer: Answer = await window.compat[name](job!).then(
    (result) => ({ result }),
    (error) => ({ error: String(error) }),
  )
  await fetch('/answer', { method: 'POST', body: JSON.stringify(answer) })
}
