/**
 * Writes what is generated from docstrings: the API reference in `docs/api` and `custom-elements.json`. With `--check` it
 * writes nothing and fails where they are not what the sources say.
 *
 * @module
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Application, ReflectionKind, TSConfigReader, TypeDocReader } from 'typedoc'
import { root } from './setup.mjs'

const REFERENCE = 'docs/api'
const MANIFEST = 'custom-elements.json'

const app = await Application.bootstrapWithPlugins({ options: join(root, 'typedoc.json') }, [
  new TypeDocReader(),
  new TSConfigReader(),
])
const project = await app.convert()
if (project === undefined) process.exit(1)
ownFirst(project)

const files = { ...(await reference(project)), [MANIFEST]: `${JSON.stringify(manifest(project), null, 2)}\n` }
process.exitCode = process.argv.includes('--check') ? check(files) : write(files)

/**
 * Puts what a module's own file declares before what it passes on: pages begin with what people came for.
 *
 * @param {import('typedoc').ProjectReflection} project
 */
function ownFirst(project) {
  for (const module of project.getReflectionsByKind(ReflectionKind.Module)) {
    const file = project.getSymbolIdFromReflection(module)?.fileName
    /** @param {import('typedoc').Reflection} reflection */
    const isOther = (reflection) => Number(project.getSymbolIdFromReflection(reflection)?.fileName !== file)
    const { groups = [] } = /** @type {import('typedoc').DeclarationReflection} */ (module)
    for (const group of groups) group.children.sort((a, b) => isOther(a) - isOther(b))
  }
}

/** The reference by path. @param {import('typedoc').ProjectReflection} project */
async function reference(project) {
  const folder = mkdtempSync(join(tmpdir(), 'tritswap-docs-'))
  try {
    app.options.setValue('outputs', [{ name: 'markdown', path: folder }])
    await app.generateOutputs(project)
    /** @type {Record<string, string>} */
    const files = {}
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (name.endsWith('.md')) files[`${REFERENCE}/${name}`] = readFileSync(join(folder, name), 'utf8')
    }
    return files
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The element for editors and frameworks (custom-elements-manifest, schema 1.0.0). @param {import('typedoc').ProjectReflection} project */
function manifest(project) {
  const element = project
    .getReflectionsByKind(ReflectionKind.Class)
    .find(({ name }) => name === 'ExpertSwitcher')
  if (element === undefined) throw new Error('Cannot find the class ExpertSwitcher')
  const { children = [], comment } = /** @type {import('typedoc').DeclarationReflection} */ (element)
  const own = children.filter(({ flags, inheritedFrom }) => !flags.isStatic && inheritedFrom === undefined)
  const fields = own.filter(
    ({ kind }) => kind === ReflectionKind.Property || kind === ReflectionKind.Accessor,
  )
  const methods = own.filter(({ kind }) => kind === ReflectionKind.Method)
  /** `name - what it is`, or `name {type} what it is`. @param {`@${string}`} tag */
  const listed = (tag) =>
    (comment?.getTags(tag) ?? []).map(({ content }) => {
      const [, name, type, description] =
        /^(\S+)(?:\s+\{(.*?)\})?\s+(?:- )?(.*)$/s.exec(textOf(content)) ?? []
      return { name, ...(type && { type: { text: type } }), description: oneLine(description ?? '') }
    })
  return {
    schemaVersion: '1.0.0',
    modules: [
      {
        kind: 'javascript-module',
        path: 'lib/element.js',
        declarations: [
          {
            kind: 'class',
            customElement: true,
            tagName: 'expert-switcher',
            name: element.name,
            description: oneLine(textOf(comment?.summary ?? [])),
            attributes: fields.flatMap((field) =>
              commentOf(field)
                .getTags('@attr')
                .map(({ content }) => ({
                  name: textOf(content),
                  fieldName: field.name,
                  type: { text: typeOf(field) },
                  description: summaryOf(field),
                })),
            ),
            members: [
              ...fields.map((field) => ({
                kind: 'field',
                name: field.name,
                type: { text: typeOf(field) },
                description: summaryOf(field),
              })),
              ...methods.map((method) => ({
                kind: 'method',
                name: method.name,
                parameters: (method.signatures?.[0]?.parameters ?? []).map(({ name, type }) => ({
                  name,
                  type: { text: String(type) },
                })),
                return: { type: { text: String(method.signatures?.[0]?.type) } },
                description: summaryOf(method),
              })),
            ],
            events: listed('@fires'),
            slots: listed('@slot'),
            cssParts: listed('@csspart'),
            cssProperties: listed('@cssprop'),
          },
        ],
        exports: [
          { kind: 'js', name: element.name, declaration: { name: element.name } },
          { kind: 'custom-element-definition', name: 'expert-switcher', declaration: { name: element.name } },
        ],
      },
    ],
  }
}

/** @param {import('typedoc').DeclarationReflection} reflection */
function commentOf({ name, comment, getSignature, signatures }) {
  const found = comment ?? getSignature?.comment ?? signatures?.[0]?.comment
  if (found === undefined) throw new Error(`Cannot describe ${name}: it has no docstring`)
  return found
}

/** @param {import('typedoc').DeclarationReflection} reflection */
function typeOf({ type, getSignature }) {
  return String(type ?? getSignature?.type)
}
/** @param {import('typedoc').DeclarationReflection} reflection */
function summaryOf(reflection) {
  return oneLine(textOf(commentOf(reflection).summary))
}
/** @param {readonly import('typedoc').CommentDisplayPart[]} parts */
function textOf(parts) {
  return parts
    .map(({ text }) => text)
    .join('')
    .trim()
}
/** @param {string} text */
function oneLine(text) {
  return text.replace(/\s+/g, ' ')
}

/** @param {Record<string, string>} files */
function write(files) {
  rmSync(join(root, REFERENCE), { recursive: true, force: true })
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  return 0
}

/** @param {Record<string, string>} files */
function check(files) {
  const stale = Object.keys(files).filter((path) => {
    const file = join(root, path)
    return !existsSync(file) || readFileSync(file, 'utf8') !== files[path]
  })
  if (stale.length === 0) return 0
  console.error(`Not what the docstrings say: ${stale.join(', ')}; run "npm run docs"`)
  return 1
}
