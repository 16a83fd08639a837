/**
 * Links between the documents lead somewhere, and every document can be reached from the first one.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'
import { ROOT } from './workplace.ts'

const DOCUMENTS = [
  ...readdirSync(ROOT),
  ...(readdirSync(join(ROOT, 'docs'), { recursive: true }) as string[]).map((name) => `docs/${name}`),
].filter((name) => name.endsWith('.md'))

/** Addresses in a document that are no URL, without what is in code. */
function linksOf(document: string): string[] {
  const text = readFileSync(join(ROOT, document), 'utf8').replace(/^```[\s\S]*?^```/gm, '')
  const links = [...text.matchAll(/\]\(([^)\s]+)\)|<img src="([^"]+)"/g)].map(
    ([, link, image]) => link ?? image,
  )
  // Pictures of the page are drawn when its states change (e2e/states.spec.ts), after the words that show them.
  return links.filter((link) => !/^[a-z]+:|images\/states\//.test(link))
}

/** Names of headings as the places of links. */
function placesOf(document: string): string[] {
  const text = readFileSync(join(ROOT, document), 'utf8').replace(/^```[\s\S]*?^```/gm, '')
  const named = [...text.matchAll(/<a id="([^"]+)"/g)].map(([, id]) => id)
  const headings = [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
  return [...named, ...headings]
}

function targetOf(document: string, link: string): { file: string; place: string | undefined } {
  const [path, place] = link.split('#')
  return { file: path === '' ? document : relative(ROOT, join(ROOT, dirname(document), path)), place }
}

test.each(DOCUMENTS.filter((document) => !document.startsWith('docs/api/')))('links of %s', (document) => {
  for (const link of linksOf(document)) {
    const { file, place } = targetOf(document, link)
    expect(existsSync(join(ROOT, file)), link).toBe(true)
    if (place !== undefined) expect(placesOf(file), link).toContain(place)
  }
})

test('every document is linked from README or docs/README', () => {
  const linked = ['README.md', 'docs/README.md'].flatMap((document) =>
    linksOf(document).map((link) => targetOf(document, link).file),
  )
  const guides = DOCUMENTS.filter(
    (document) => !/^docs\/(api|README)/.test(document) && document !== 'README.md',
  )
  expect(guides.filter((document) => !linked.includes(document))).toEqual([])
})

test('pictures of the guides say what they show', () => {
  for (const document of DOCUMENTS) {
    const text = readFileSync(join(ROOT, document), 'utf8')
    expect(text, document).not.toMatch(/!\[\]\(/)
  }
})

test('COMPATIBILITY begins with what npm run compat puts there', () => {
  const text = readFileSync(join(ROOT, 'docs/COMPATIBILITY.md'), 'utf8')
  const opening = readFileSync(join(ROOT, 'e2e/compat/does_it_work.md'), 'utf8')
  expect(text.startsWith(`# Compatibility\n\n${opening}## What was compared\n`)).toBe(true)
})

test('every tag of an error has its place in TROUBLESHOOTING', () => {
  const tags = [...readFileSync(join(ROOT, 'src/errors.ts'), 'utf8').matchAll(/^ {2}\| '([a-z-]+)'$/gm)]
  expect(tags.length).toBeGreaterThan(10)
  const headings = [
    ...readFileSync(join(ROOT, 'docs/TROUBLESHOOTING.md'), 'utf8').matchAll(/^## (.+)$/gm),
  ].join()
  for (const [, tag] of tags) expect(headings).toContain(`\`${tag}\``)
})
