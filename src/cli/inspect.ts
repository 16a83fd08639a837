import { type Inspection, inspectHead, type TensorInspection } from '../compress/inspect.ts'
import { termVectors } from '../compress/term_vectors.ts'
import { TritswapError } from '../errors.ts'
import { isCache, virtualTensorOf } from '../format/contributions.ts'
import { readHead } from '../format/head.ts'
import { jsonOption, newCommand } from './command.ts'
import { openFile } from './file_source.ts'
import { formatBytes, formatNumber, formatTable } from './format_text.ts'
import { oneLine, printJson, printText } from './print.ts'

const DESCRIPTION = `
Shows what a .trit file holds: per tensor its shape, codec, kept entries, scale and size, and in total how the file
compares with the same deltas in f16 and f32 and with the entropy of a ternary tensor, n·H(kept/n) bits with
H(k) = −[(1−k)·log2(1−k) + k·log2(k/2)]. Only the head of the file is read, and the sections of terms, whose vectors are
compared with their entropy.
`

const EXAMPLES = ['tritswap inspect poet.trit', 'tritswap inspect hf:someone/experts/poet.trit --json']

export function command() {
  return newCommand('inspect', DESCRIPTION, EXAMPLES)
    .argument('<file.trit>')
    .addOption(jsonOption('the same ({file, totals, tensors, method, base, compression, sources, …})'))
    .action(async (file, { json }) => {
      const inspection = await inspectFile(file)
      if (json) printJson(inspection)
      else printText(inspectionText(inspection))
    })
}

/** @throws {TritswapError} `format` when the head is bad or the file is not as long as the head says; as {@link termVectors} */
export async function inspectFile(path: string): Promise<Inspection> {
  const source = await openFile(path)
  try {
    const head = await readHead(source)
    const expected = head.headBytes + head.payloadBytes
    const found = await source.size()
    if (found !== expected) {
      throw new TritswapError(
        'format',
        `Cannot inspect ${path}: expected ${expected} bytes as its head says, found ${found}; fetch it again`,
        {
          fields: { path, expected, found },
        },
      )
    }
    return inspectHead(head, path, await termVectors(source, head))
  } finally {
    await source.close()
  }
}

function inspectionText(inspection: Inspection): string {
  const { file, method, base, compression, totals, tensors, sources } = inspection
  const facts: [string, string | undefined][] = [
    ['file', `${file.name}, ${formatBytes(file.bytes)} (head ${formatBytes(totals.headBytes)})`],
    ['root hash', file.rootHash],
    ['label', inspection.label],
    ['description', inspection.description],
    ['licence', inspection.licence],
    ['method', method],
    ['lossless', losslessText(tensors)],
    ['virtual tokens', virtualText(tensors)],
    ['acts from', inspection.invocation && `the last ${inspection.invocation.join(' ')} of the prompt on`],
    [
      'rule',
      Object.entries(compression)
        .flatMap(([key, value]) => (value === undefined ? [] : [`${key} ${value}`]))
        .join(', ') || undefined,
    ],
    [
      'base',
      [base.name, base.fingerprint, base.sketched ? 'with sketch' : undefined].filter(Boolean).join(', ') ||
        undefined,
    ],
    [
      'made from',
      sources
        .map(({ name, sha256 }) => (sha256 === undefined ? name : `${name} ${sha256.slice(0, 16)}…`))
        .join(', ') || undefined,
    ],
  ]
  const rows = tensors.map((tensor) => [
    tensor.name,
    tensor.shape.join('×') || 'scalar',
    [tensor.codec, tensor.bits === undefined ? (tensor.dtype ?? tensor.unit) : `${tensor.bits}-bit`]
      .filter(Boolean)
      .join(' '),
    tensor.kept,
    `${formatNumber(100 * tensor.density)}%`,
    tensor.scale === null ? '' : formatNumber(tensor.scale, 6),
    tensor.bytes,
    tensor.entropyBytes === 0 ? '' : formatNumber(tensor.bytes / tensor.entropyBytes),
  ])
  const width = Math.max(...facts.map(([key]) => key.length))
  return `${facts
    .filter(([, value]) => value !== undefined)
    .map(([key, value = '']) => `${key.padEnd(width)}  ${oneLine(value)}`)
    .join('\n')}

${formatTable(['tensor', 'shape', 'codec', 'kept', 'density', 'scale', 'bytes', '/entropy'], rows)}

${tensors.length} tensors, ${totals.weights} weights, ${totals.kept} kept; ${formatNumber(totals.ratioToEntropy)} × entropy, ${formatNumber(totals.ratioToF16)} × smaller than in f16, ${formatNumber(totals.ratioToF32)} × than in f32${vectorsText(totals, '\n')}`
}

/** How near the vectors of terms are to their entropy, and what the head adds to them; nothing where there are none. */
export function vectorsText({ vectors, headBytes }: Inspection['totals'], before = ''): string {
  if (vectors === undefined) return ''
  const { terms, bytes, entropyBytes } = vectors
  return `${before}${terms} terms: vectors ${formatBytes(bytes)}, ${formatNumber(bytes / entropyBytes)} × their entropy; head ${formatBytes(headBytes)}`
}

/** In which type a file is exact, what an entry takes, and whether that holds where the base is in f16. */
function losslessText(tensors: readonly TensorInspection[]): string | undefined {
  const own = tensors.filter(({ unit }) => unit !== undefined)
  if (own.length === 0) return undefined
  const sum = (of: (tensor: TensorInspection) => number) =>
    own.reduce((total, tensor) => total + of(tensor), 0)
  const rounded = sum(({ roundedInF16 = 0 }) => roundedInF16)
  const isKnown = own.every(({ roundedInF16 }) => roundedInF16 !== undefined)
  const there = rounded === 0 ? 'exact' : `${rounded} weights a rounding off`
  const bits = (8 * sum(({ bytes }) => bytes)) / sum(({ kept }) => kept)
  const which = own.length === tensors.length ? '' : `${own.length} of ${tensors.length} tensors, `
  return `${which}in ${[...new Set(own.map(({ unit }) => unit))].join(' and ')}, ${formatNumber(bits)} bits for each changed weight; over a base in f16 ${isKnown ? there : 'not known'}`
}

function virtualText(tensors: readonly TensorInspection[]): string | undefined {
  const first = virtualTensorOf(tensors)
  if (first === undefined) return undefined
  const { shape } = first
  return isCache(first) ? `${shape[1]}, as keys and values of ${shape[0]} × ${shape[2]}` : shape.join(' × ')
}
