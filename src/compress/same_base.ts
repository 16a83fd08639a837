/**
 * Whether experts can be brought together: they were made in one way, for one base.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { summaryOf } from '../format/codecs/index.ts'
import { fromHalf } from '../format/float16.ts'
import { SKETCH_VALUES } from '../format/limits.ts'
import { compareBase } from '../format/sketch.ts'
import { targetsOf } from '../format/table.ts'
import type { OpenExpert } from './open_expert.ts'

/**
 * @param what - the operation, for messages
 * @throws {TritswapError} `base` or `input` unless all change the weights of one base in one way
 */
export function checkSameBase(experts: readonly OpenExpert[], what: 'merge' | 'compare'): void {
  const [first, ...others] = experts
  for (const expert of experts) {
    if (expert.head.table.kind === 'expert') continue
    throw new TritswapError(
      'input',
      `Cannot ${what} ${expert.source.name}: expected an expert, found a ${expert.head.table.kind}`,
    )
  }
  for (const { source, head } of experts) {
    const lossless = head.table.tensors.find((tensor) => summaryOf(tensor).unit !== undefined)
    if (lossless === undefined) continue
    throw new TritswapError(
      'unsupported',
      `Cannot ${what} ${source.name}: ${lossless.name} is lossless, as steps from the base's own weights, which do not add up; ${what} what compress makes of it without --lossless`,
      { fields: { name: source.name, tensor: lossless.name } },
    )
  }
  for (const other of others) {
    const [a, b] = [first.head.table, other.head.table]
    if (a.method !== b.method) {
      throw new TritswapError(
        'input',
        `Cannot ${what} ${first.source.name} with ${other.source.name}: one has method ${a.method}, the other ${b.method}`,
        { fields: { methods: [a.method, b.method] } },
      )
    }
    const known = a.base.fingerprint !== undefined && b.base.fingerprint !== undefined
    if (known ? a.base.fingerprint !== b.base.fingerprint : !sketchesAgree(first, other)) {
      throw new TritswapError(
        'base',
        `Cannot ${what} ${first.source.name} with ${other.source.name}: they were made for different bases; ${what} experts of one base`,
        { fields: { bases: [a.base.fingerprint, b.base.fingerprint] } },
      )
    }
  }
}

/** False if both know values of their bases, and these differ. */
function sketchesAgree(a: OpenExpert, b: OpenExpert): boolean {
  const theirs = sketchByTarget(b)
  const [expectedDtype, dtype = 'f16'] = [a, b].map(({ head }) => head.table.base.dtype)
  const common = [...sketchByTarget(a)].flatMap(([name, expected]) => {
    const other = theirs.get(name)
    const found = other && Float32Array.from(other, fromHalf)
    return found === undefined ? [] : [{ name, expected, found, dtype, expectedDtype }]
  })
  return compareBase(common).same
}

/** What an expert knows of each base tensor that it changes. */
export function sketchByTarget({ head: { table } }: OpenExpert): Map<string, Uint16Array> {
  const { sketch } = table.base
  if (sketch === undefined) return new Map()
  return new Map(
    targetsOf(table.tensors).map((target, i) => [
      target,
      sketch.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES),
    ]),
  )
}
