/** The generated types of the element, as a TSX file meets them. */
import { expect, test } from 'vitest'
import { typeCheck } from '../type_check.ts'

const CODE = `import type { ExpertSwitcher } from 'tritswap/element'
import 'tritswap/jsx'
export const page = (
  <expert-switcher
    model="/models/demo"
    max-new-tokens={4}
    autoload
    ontoken={(event) => event.detail.text.length + event.target.prompt.length}
    onerror={(event) => event.detail.message}
  />
)
declare const element: ExpertSwitcher
element.addEventListener('token', (event) => event.detail.text.length)
element.addEventListener('click', (event) => event.button)
export const wrong = [
  <expert-switcher seed="seven" />,
  <expert-switcher ontoken={(event) => event.detail.words} />,
  element.addEventListener('token', (event) => event.detail.words),
]
`

test('attributes, properties and events of the element have their types in TSX', async () => {
  const problems = await typeCheck(
    'element',
    { 'page.tsx': CODE },
    { 'tritswap/element': 'src/element/define.ts', 'tritswap/jsx': 'types/jsx.d.ts' },
  )
  const wrong = CODE.slice(0, CODE.indexOf('wrong')).split('\n').length
  expect(
    problems.map(({ line }) => line).sort((a, b) => a - b),
    JSON.stringify(problems),
  ).toEqual([wrong + 1, wrong + 2, wrong + 3])
})
