/**
 * What `<expert-switcher>` is, for editors (`custom-elements.json`) and for JSX and Vue templates (`types/`), of the docstrings
 * of its class. `npm run docs` writes them.
 *
 * @module
 */
import { jsxTypesPlugin } from '@wc-toolkit/jsx-types'
import { customElementVuejsPlugin } from 'custom-element-vuejs-integration'

/** Where the types go, relative to this file; another folder to compare with. */
const outdir = process.env.ELEMENT_TYPES ?? 'types'
const globalTypePath = 'tritswap/element'

export default {
  globs: ['src/element/expert_switcher.ts'],
  litelement: true,
  packagejson: false,
  plugins: [
    publicOnly(),
    // Both take the type of an event as it stands, and import none of the names in it.
    eventTypes((name) => `import("${globalTypePath}").ExpertSwitcherEvents["${name}"]`),
    jsxTypesPlugin({ outdir, fileName: 'jsx.d.ts', globalTypePath, stronglyTypedEvents: true }),
    eventTypes((name) => `import("${globalTypePath}").ExpertSwitcherEvents["${name}"]["detail"]`),
    customElementVuejsPlugin({ outdir, fileName: 'vue.d.ts', globalTypePath }),
    eventTypes((name) => written.get(name)),
  ],
}

/** Types of events as the docstrings have them. */
const written = new Map()

/** @param {(name: string) => string | undefined} typeOf */
function eventTypes(typeOf) {
  return {
    name: 'event-types',
    packageLinkPhase({ customElementsManifest }) {
      for (const { declarations } of customElementsManifest.modules) {
        for (const { events } of declarations) {
          for (const event of events) {
            if (!written.has(event.name)) written.set(event.name, event.type.text)
            event.type = { text: typeOf(event.name) }
          }
        }
      }
    },
  }
}

/** Leaves the element as people use it: its file is the published one, and only what has a docstring is there. */
function publicOnly() {
  return {
    name: 'public-only',
    packageLinkPhase({ customElementsManifest }) {
      for (const module of customElementsManifest.modules) {
        module.path = 'lib/element.js'
        module.declarations = module.declarations.filter(({ customElement }) => customElement)
        for (const declaration of module.declarations) {
          declaration.tagName = 'expert-switcher'
          declaration.members = declaration.members.filter(
            ({ name, privacy, description }) => !name.startsWith('#') && privacy !== 'private' && description,
          )
          declaration.events = declaration.events.filter(({ description }) => description)
        }
        module.exports = [
          {
            kind: 'js',
            name: 'ExpertSwitcher',
            declaration: { name: 'ExpertSwitcher', module: module.path },
          },
          {
            kind: 'custom-element-definition',
            name: 'expert-switcher',
            declaration: { name: 'ExpertSwitcher', module: module.path },
          },
        ]
      }
    },
  }
}
