import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { oneLine } from '../../src/cli/print.ts'
import { buildFile, PLAIN_TABLE } from '../format/samples.ts'
import { tritswap } from './in_process.ts'

/** Sets the title of the window, clears the screen, forges a line, turns the direction of text, in 8 bits too. */
const EVIL = '\u001b]0;title\u0007\u001b[2J\nok.trit is good\r\u009b31m\u202egnp'
const HIDDEN = /(?!\n)[\p{Cc}\u202a-\u202e\u2066-\u2069]/u

let folder: string
let file: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-'))
  file = join(folder, 'evil.trit')
  const table = {
    ...PLAIN_TABLE,
    label: EVIL,
    description: EVIL,
    licence: EVIL,
    base: { name: EVIL },
    compression: { scale: EVIL, density: 0.5 },
    sources: [{ name: EVIL }],
  }
  const values = Float32Array.of(1, 2)
  await writeFile(file, await buildFile([{ name: EVIL, shape: [2], values }], table))
  return () => rm(folder, { recursive: true })
})

test('a text on one line shows every character that it has', () => {
  expect(oneLine('a\u001b[1mb\nc\u009b\u202e')).toBe('a\\u001b[1mb\\u000ac\\u009b\\u202e')
  expect(oneLine('größer → 時, 👍')).toBe('größer → 時, 👍')
})

test('no command prints a control character of a file, or a line that is not its own', async () => {
  const out = join(folder, 'x.safetensors')
  for (const argv of [
    ['inspect', file],
    ['inspect', file, '--json'],
    ['verify', file],
    ['compare', file, file, '--tensors'],
    ['compare', file, file, '--json'],
    ['decode', file, '--out', out, '--json'],
    ['verify', file, '--base', out],
    ['compress', '--base', out, '--finetuned', out, '--out', join(folder, 'y.trit')],
    ['registry', 'build', folder, '--json'],
    ['inspect', `${file}${EVIL}`],
    [EVIL],
    ['inspect', `--${EVIL}`],
  ]) {
    const printed = await tritswap(...argv)
    const text = printed.out + printed.err
    expect(text, argv.join(' ')).not.toMatch(HIDDEN)
    expect(text, argv.join(' ')).not.toMatch(/^ok\.trit is good/m)
  }
})

test('JSON reads back as it was', async () => {
  const { out } = await tritswap('inspect', file, '--json')
  expect(JSON.parse(out)).toMatchObject({ label: EVIL, tensors: [{ name: EVIL }] })
})
