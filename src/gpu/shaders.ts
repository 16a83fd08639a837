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
 * it is imported. A line `#requires name, other` says that a module uses declarations that it does not import, because
 * they differ between its importers: a variable with another binding, for example. A line `#slot text` stands for that
 * text once for each slot, with its number in the place of `SLOT`, and a number that is larger by 5 in the place of `SLOT+5`.
 *
 * @param aliases - modules that go by another name in this variant, e.g. `{ target: 'target_f16' }`
 * @param slots - buffers of weights that are bound at once
 * @throws {TritswapError} `webgpu` for an import that does not exist, or a requirement that nothing declares
 */
export function assemble(
  kernel: string,
  aliases: Readonly<Record<string, string>> = {},
  sources: ShaderSources = SOURCES,
  slots = 1,
): string {
  const seen = new Set<string>()
  const required: { module: string; name: string }[] = []
  const paste = (name: string, importer: string): string => {
    const actual = aliases[name] ?? name
    if (seen.has(actual)) return ''
    seen.add(actual)
    const text = sources[actual]
    if (text === undefined) {
      throw new TritswapError(
        'webgpu',
        `Cannot assemble the shader ${kernel}: ${importer} imports ${actual}, which does not exist`,
        { fields: { kernel, importer, missing: actual } },
      )
    }
    return text
      .replace(/^#requires +(.+?) *\n/gm, (_, names: string) => {
        for (const name of names.split(/, */)) required.push({ module: actual, name })
        return ''
      })
      .replace(/^#slot (.*\n)/gm, (_, line: string) =>
        Array.from({ length: slots }, (_, slot) =>
          line.replace(/SLOT(?:\+(\d+))?/g, (_, more = '0') => String(slot + Number(more))),
        ).join(''),
      )
      .replace(/^#import +(\w+) *$/gm, (_, imported: string) => paste(imported, actual))
  }
  const code = paste(kernel, 'the program')
  const declared = declarationsOf(code)
  const missing = required.find(({ name }) => !declared.has(name))
  if (missing === undefined) return code
  throw new TritswapError(
    'webgpu',
    `Cannot assemble the shader ${kernel}: ${missing.module} requires ${missing.name}, which nothing declares`,
    { fields: { kernel, importer: missing.module, missing: missing.name } },
  )
}

/** Names that WGSL code declares at module scope. */
export function declarationsOf(code: string): Set<string> {
  const declaration =
    /^(?:@\w+(?:\([^)]*\))?\s+)*(?:var(?:<[^>]*>)?|const|override|fn|struct|alias)\s+(\w+)/gm
  return new Set(Array.from(code.matchAll(declaration), ([, name]) => name))
}
