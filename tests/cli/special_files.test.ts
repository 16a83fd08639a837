import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { tritswap } from './in_process.ts'

const MODEL = resolve('../shared/onnx-zoo/llama-tiny')

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-'))
  await mkdir(join(folder, 'model/onnx'), { recursive: true })
  return () => rm(folder, { recursive: true })
})
const at = (name: string) => join(folder, name)
const prepare = () => tritswap('prepare', at('model'), '--out', at('out'))

/** As a hub's cache lays out a model: every file is a link to one whose name is its hash. */
async function linkModel(others: Record<string, string> = {}): Promise<void> {
  const links = {
    'config.json': join(MODEL, 'config.json'),
    'model.safetensors': join(MODEL, 'model.safetensors'),
    'onnx/model.onnx': join(MODEL, 'onnx/model.onnx'),
    ...others,
  }
  for (const [name, target] of Object.entries(links)) await symlink(target, at(`model/${name}`))
}

test('a folder of links to files is prepared', async () => {
  await linkModel()
  expect(await prepare()).toMatchObject({ code: 0, err: '' })
  expect((await readdir(at('out'))).sort()).toContain('config.json')
})

test.each(['config.json', 'model.safetensors', 'onnx/model.onnx', 'tokenizer.json'])(
  'a link from %s to an endless device is refused by its name',
  async (name) => {
    await linkModel({ [name]: '/dev/zero' })
    expect(await prepare()).toMatchObject({
      code: 1,
      err: expect.stringMatching(new RegExp(`Cannot open .*${name}: it is a folder, a device or a pipe`)),
    })
  },
)

test.each(['config.json', 'onnx/model.onnx'])('a pipe in place of %s holds nothing up', async (name) => {
  await linkModel({ [name]: at('pipe') })
  execFileSync('mkfifo', [at('pipe')])
  expect(await prepare()).toMatchObject({ code: 1, err: expect.stringContaining(name) })
})

test('a link to nothing is said', async () => {
  await linkModel({ 'tokenizer.json': at('nowhere') })
  const err = expect.stringMatching(/Cannot open .*tokenizer.json: there is no such file/)
  expect(await prepare()).toMatchObject({ code: 1, err })
})

test('compress, verify and registry read no devices', async () => {
  await linkModel({ 'model.safetensors': '/dev/zero', 'experts.json': '/dev/zero', 'x.trit': '/dev/zero' })
  for (const argv of [
    ['compress', '--base', MODEL, '--finetuned', at('model'), '--out', at('x.trit')],
    ['compress', '--base', at('model/model.safetensors'), '--finetuned', MODEL, '--out', at('x.trit')],
    ['verify', at('model/x.trit')],
    ['inspect', at('model/x.trit')],
    ['registry', 'build', at('model')],
  ]) {
    expect(await tritswap(...argv)).toMatchObject({ code: 1, err: expect.stringMatching(/device or a pipe/) })
  }
})

test.each(['null', '[]', '{}', '<!doctype html>', 'version https://git-lfs.github.com/spec/v1'])(
  'a manifest that is %s is said',
  async (text) => {
    await writeFile(at('model/tritswap.json'), text)
    const inputs = join(MODEL, 'expected.safetensors')
    const { code, err } = await tritswap('check', '--model', at('model'), '--inputs', inputs)
    expect({ code, err }).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^Cannot read .*tritswap.json/),
    })
    expect(err).not.toMatch(/^\s+at /m)
    expect(await readFile(at('model/tritswap.json'), 'utf8')).toBe(text)
  },
)

test('weights beside a graph that are a pointer of Git LFS are named', async () => {
  const genai = join(MODEL, 'onnx-genai/model.onnx')
  await linkModel({ 'onnx/model.onnx': genai })
  await writeFile(
    at('model/onnx/model.onnx_data'),
    'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
  )
  const err = expect.stringMatching(/onnx_data: it is a Git LFS pointer/)
  expect(await prepare()).toMatchObject({ code: 1, err })
})
