/** The page in a browser that nobody drives: it asks the server for the call to make, and says what came of it. */
import './page.ts'
import type { Answer, Asked } from './browsers.ts'

const { name, job } = (await (await fetch('/asked')).json()) as Asked
const answer: Answer = await window.compat[name](job!).then(
  (result) => ({ result }),
  (error) => ({ error: String(error) }),
)
await fetch('/answer', { method: 'POST', body: JSON.stringify(answer) })
