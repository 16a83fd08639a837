import { useState } from 'react'
import { useExpert } from './use_expert.js'

export function Writer({ model, expert }) {
  const loader = useExpert(model, expert)
  const [text, setText] = useState('')
  const write = async () => {
    for await (const { text } of loader.generate('The king', { maxNewTokens: 4 }))
      setText((all) => all + text)
  }
  return (
    <main>
      <button type="button" disabled={!loader} onClick={write}>
        Write
      </button>
      <output>{text}</output>
    </main>
  )
}
