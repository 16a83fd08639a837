import { TritswapError } from '../errors.ts'
import { type ShaderSources, SOURCES } from './shaders.ts'

const DECLARATION = /^(?:@id\(\d+\) *)?(?:const|override) +(\w+)(?: *: *\w+)? *= *([^;]+);/gm
const LITERAL = /^(-?(?:0x[\da-f]+|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?))[uifh]?$/i

/** The constants and overrides of WGSL code whose values are literals, by name. */
export function constantsIn(code: string): ReadonlyMap<string, number> {
  const found = new Map<string, number>()
  for (const [, name, expression] of code.matchAll(DECLARATION)) {
    const literal = LITERAL.exec(expression.trim())
    if (literal !== null) found.set(name, Number(literal[1]))
  }
  return found
}

/**
 * Constants that TypeScript shares with a WGSL file, which is the one place that has their values.
 *
 * @param module - the file's name without folder and suffix
 * @throws {TritswapError} `webgpu` for a name that the file does not declare with a literal value
 */
export function shaderConstants<const Name extends string>(
  module: string,
  names: readonly Name[],
  sources: ShaderSources = SOURCES,
): Readonly<Record<Name, number>> {
  const found = constantsIn(sources[module] ?? '')
  const entries = names.map((name) => {
    const value = found.get(name)
    if (value === undefined) {
      throw new TritswapError(
        'webgpu',
        `Cannot read the constant ${name}: ${module}.wgsl does not declare it`,
        {
          fields: { module, missing: name },
        },
      )
    }
    return [name, value] as const
  })
  return Object.fromEntries(entries) as Record<Name, number>
}
