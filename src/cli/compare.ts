import { type Comparison, compareExperts, type Similarity } from '../compress/compare.ts'
import { jsonOption, newCommand, UsageError } from './command.ts'
import { formatNumber, formatTable } from './format_text.ts'
import { withExpertFiles } from './open_experts.ts'
import { nameOf } from './place.ts'
import { printJson, printText } from './print.ts'

const DESCRIPTION = `
Shows how alike experts of one base are, pair by pair, from their compressed form: ternary tensors are compared as bit
masks and by counting bits, and terms by the masks of their vectors. A tensor that an expert lacks counts as zero.

  cosine     of the two task vectors: 1 the same direction, 0 independent, −1 opposite
  overlap    weights kept by both, as a fraction of those kept by either
  agreement  of the weights kept by both, the fraction of the same sign: experts that agree merge well
  dot, L1    Σ a·b and Σ |a − b|; sign L1 is Σ |sign a − sign b|

Terms change every weight, so of them dot and cosine are all that is said.
`

const EXAMPLES = ['tritswap compare poet.trit other.trit', 'tritswap compare poet.trit other.trit --json']

export function command() {
  return newCommand('compare', DESCRIPTION, EXAMPLES)
    .argument('<file.trit...>', 'two or more')
    .option('--tensors', 'a table for every tensor too')
    .addOption(jsonOption('the matrices ({experts, total[i][j], tensors: [{name, similarity[i][j]}]})'))
    .action(async (files, { tensors = false, json }) => {
      if (files.length < 2)
        throw new UsageError(`Cannot compare: expected at least two files, found ${files.length}`)
      const comparison = await withExpertFiles(files, (experts) => compareExperts(experts))
      if (json) printJson({ experts: files, ...comparison })
      else printText(comparisonText(files.map(nameOf), comparison, tensors))
    })
}

/** Measures in the order of the help, and how each is shown. */
const MEASURES: [string, (similarity: Similarity) => number | null][] = [
  ['cosine', ({ cosine }) => cosine],
  ['overlap', ({ overlap }) => overlap],
  ['agreement', ({ signAgreement }) => signAgreement],
  ['dot', ({ dot }) => dot],
  ['L1', ({ l1 }) => l1],
  ['sign L1', ({ signL1 }) => signL1],
]

function comparisonText(names: string[], { total, tensors }: Comparison, perTensor: boolean): string {
  const tables = MEASURES.map(([measure, of]) => matrixText(measure, names, total, of))
  if (perTensor) {
    for (const { name, similarity } of tensors) {
      tables.push(
        ...MEASURES.slice(0, 3).map(([measure, of]) =>
          matrixText(`${name}: ${measure}`, names, similarity, of),
        ),
      )
    }
  }
  return tables.join('\n\n')
}

function matrixText(
  title: string,
  names: string[],
  similarity: Similarity[][],
  of: (similarity: Similarity) => number | null,
): string {
  const cell = (value: number | null) => (value === null ? '-' : formatNumber(value))
  return formatTable(
    [title, ...names],
    names.map((name, i) => [name, ...similarity[i].map((pair) => cell(of(pair)))]),
  )
}
