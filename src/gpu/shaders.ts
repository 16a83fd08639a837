/// <reference types="vite/client" />
import { TritswapError } from '../errors.ts'

/** WGSL files by name without folder and suffix: kernels, and the shared modules that they import. */
export type ShaderSources = Readonly<Record<string, string>>

const named = (files: Record<string, string>) =>
  Object.fromEntries(Object.entries(files).map(([path, text]) => [path.replace(/^.*\/|\.wgsl$/g, ''), text]))

/** All of `shaders/`, inlined by the build. */
export const SOURCES: ShaderSources = named(
  import.meta.glob<string>('../../shaders/**/*.wgsl', { query: '?raw', import: 'default', eager: true }),
)

/**
 * A kernel with its imports pasted in. A line `#import name` stands for the module of that name, once however often
 * it is imported.
 *
 * @param aliases - modules that go by another name in this variant, e.g. `{ target: 'target_f16' }`
 * @throws {TritswapError} `webgpu` for a name that does not exist
 */
export function assemble(
  kernel: string,
  aliases: Readonly<Record<string, string>> = {},
  sources: ShaderSources = SOURCES,
): string {
  const seen = new Set<string>()
  const paste = (name: string, importer: string): string => {
    const actual = aliases[name] ?? name
    if (seen.has(actual)) return ''
    seen.add(actual)
    const text = sources[actual]
    if (text === undefined) {
      throw new TritswapError(
        'webgpu',
        `Cannot assemble the shader ${kernel}: ${importer} imports ${actual}, which does not exist`,
        {
          fields: { kernel, importer, missing: actual },
        },
      )
    }
    return text.replace(/^#import +(\w+) *$/gm, (_, imported: string) => paste(imported, actual))
  }
  return paste(kernel, 'the program')
}
