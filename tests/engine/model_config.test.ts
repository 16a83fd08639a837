import { expect, test } from 'vitest'
import { readModelConfig } from '../../src/engine/model_config.ts'

const FOLDER = 'https://models.example/m/'
const GOOD: Record<string, string | undefined> = {
  'config.json': JSON.stringify({
    model_type: 'llama',
    num_hidden_layers: 30,
    max_position_embeddings: 2048,
  }),
  'tokenizer.json': JSON.stringify({ model: { vocab: { a: 0 }, merges: [] } }),
  'tokenizer_config.json': '{}',
  'generation_config.json': JSON.stringify({ eos_token_id: [1, 2] }),
}

const readFrom = (files: Record<string, string | undefined>) =>
  readModelConfig(FOLDER, async (file) => {
    const content = files[file]
    return content === undefined ? undefined : new TextEncoder().encode(content)
  })

test('a good folder is read once', async () => {
  const { modelType, files } = await readFrom(GOOD)
  expect(modelType).toBe('llama')
  expect([...files.keys()].sort()).toEqual(Object.keys(GOOD).sort())
})

const PAGE = '<!doctype html><html></html>'
const POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'

test.each(Object.keys(GOOD))('%s that is something else is refused by its name', async (file) => {
  for (const [content, said] of [
    ['null', 'found null'],
    ['[]', 'found a list'],
    ['7', 'found a number'],
    ['"text"', 'found a string'],
    [POINTER, 'Git LFS pointer'],
    ['{"a":', 'not JSON'],
    ['\ufffe', 'not JSON'],
    ['['.repeat(100_000), 'nests over'],
  ]) {
    await expect(readFrom({ ...GOOD, [file]: content })).rejects.toMatchObject({
      tag: content.startsWith('[[') ? 'limit' : 'format',
      message: expect.stringMatching(new RegExp(`${FOLDER}${file}.*${said}`)),
    })
  }
})

test('the page of a single-page app stands for a file that is not there', async () => {
  for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json']) {
    const refused = { tag: 'format', message: expect.stringMatching(new RegExp(`${file}: it is an HTML`)) }
    await expect(readFrom({ ...GOOD, [file]: PAGE })).rejects.toMatchObject(refused)
    const missing = { tag: 'input', message: expect.stringContaining(`has no ${file}`) }
    await expect(readFrom({ ...GOOD, [file]: undefined })).rejects.toMatchObject(missing)
  }
  for (const content of [PAGE, undefined]) {
    const { files } = await readFrom({ ...GOOD, 'generation_config.json': content })
    expect(files.get('generation_config.json')).toBeUndefined()
  }
})

test.each([
  ['config.json', '{}', 'model_type'],
  ['config.json', '{"model_type":5}', 'model_type'],
  ['config.json', '{"model_type":"llama","num_hidden_layers":1e9}', 'num_hidden_layers'],
  ['config.json', '{"model_type":"llama","num_hidden_layers":"30"}', 'num_hidden_layers'],
  ['config.json', '{"model_type":"gemma3","text_config":{"num_hidden_layers":1e9}}', 'num_hidden_layers'],
  ['config.json', '{"model_type":"bart","decoder_layers":1e9}', 'decoder_layers'],
  ['config.json', '{"model_type":"llama","max_position_embeddings":{}}', 'max_position_embeddings'],
  ['config.json', '{"model_type":"llama","max_position_embeddings":1.5}', 'max_position_embeddings'],
  ['tokenizer.json', '{}', 'model of'],
  ['tokenizer.json', '{"model":[]}', 'model of'],
  ['tokenizer.json', '{"model":{}}', 'model.vocab'],
  ['generation_config.json', '{"eos_token_id":"</s>"}', 'eos_token_id'],
  ['generation_config.json', '{"eos_token_id":[null]}', 'eos_token_id'],
  ['generation_config.json', '{"temperature":"hot"}', 'temperature'],
  ['generation_config.json', '{"top_k":{}}', 'top_k'],
])('%s of %s is refused for its %s', async (file, content, field) => {
  await expect(readFrom({ ...GOOD, [file]: content })).rejects.toMatchObject({
    tag: 'format',
    message: expect.stringContaining(field),
  })
})

test.each([
  { model_type: 'gpt2', n_layer: 12, n_positions: 1024, max_position_embeddings: null },
  { model_type: 'x', decoder_layers: -1, out_layers: [1, 2], tie_layers: true, hidden_layers: 'all' },
])('a configuration as models have it passes: %o', async (config) => {
  await readFrom({ ...GOOD, 'config.json': JSON.stringify(config) })
})
