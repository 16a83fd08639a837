/** The generated types of the element, as a TSX file meets them. */
import { join } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '../..')
const FILE = join(ROOT, 'tests/element/page.tsx')

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

test('attributes, properties and events of the element have their types in TSX', () => {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts', 'lib.dom.asynciterable.d.ts'],
    types: ['@webgpu/types', 'vite/client'],
    jsx: ts.JsxEmit.Preserve,
    strict: true,
    skipLibCheck: true,
    noEmit: true,
    allowImportingTsExtensions: true,
    paths: {
      'tritswap/element': [join(ROOT, 'src/element/define.ts')],
      'tritswap/jsx': [join(ROOT, 'types/jsx.d.ts')],
    },
  }
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  host.fileExists = (path) => path === FILE || fileExists(path)
  host.getSourceFile = (path, ...rest) =>
    path === FILE ? ts.createSourceFile(path, CODE, ts.ScriptTarget.ES2022) : getSourceFile(path, ...rest)
  const program = ts.createProgram([FILE], options, host)
  const file = program.getSourceFile(FILE)!
  const problems = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]
  const lines = problems.map(({ start = 0 }) => CODE.slice(0, start).split('\n').length)
  const wrong = CODE.slice(0, CODE.indexOf('wrong')).split('\n').length
  expect(
    lines.sort((a, b) => a - b),
    problems.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')).join('\n'),
  ).toEqual([wrong + 1, wrong + 2, wrong + 3])
})
