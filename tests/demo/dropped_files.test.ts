import { describe, expect, test } from 'vitest'
import { filesOfDrop, recognise } from '../../src/demo/dropped_files.ts'

const files = (...paths: string[]) =>
  paths.map((path) => ({ path, file: new File(['x'], path.split('/').at(-1)!) }))
const names = (list: File[]) => list.map(({ name }) => name)

describe('what was brought', () => {
  test('an expert, whatever lies beside it', () => {
    expect(recognise(files('a/readme.md', 'a/poet.trit'))).toMatchObject({ kind: 'expert' })
  })

  test('the folder of an adapter, not the states that its trainer left below it', () => {
    const brought = recognise(
      files(
        'poet/checkpoint-10/adapter_model.safetensors',
        'poet/checkpoint-10/adapter_config.json',
        'poet/adapter_config.json',
        'poet/adapter_model.safetensors',
        'poet/sample.txt',
        'poet/tokenizer.json',
      ),
    )
    if (brought.kind !== 'weights') throw new Error('no weights')
    expect(brought.name).toBe('poet')
    expect(names(brought.files)).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
    expect(brought.text?.name).toBe('sample.txt')
  })

  test('one file by its name, shards by their folder', () => {
    expect(recognise(files('poet.safetensors'))).toMatchObject({ kind: 'weights', name: 'poet' })
    const shards = recognise(
      files(
        'big/model.safetensors.index.json',
        'big/model-00001-of-00002.safetensors',
        'big/model-00002-of-00002.safetensors',
      ),
    )
    expect(shards).toMatchObject({ kind: 'weights', name: 'big' })
    expect(shards.kind === 'weights' && shards.files).toHaveLength(3)
  })

  test('an adapter without its configuration, and what is neither, are errors that say what is missing', () => {
    expect(() => recognise(files('adapter_model.safetensors'))).toThrow(/adapter_config\.json beside it/)
    expect(() => recognise(files('adapter_model.bin'))).toThrow(/adapter_config\.json beside it/)
    expect(() => recognise(files('photo.jpg'))).toThrow(/Cannot use photo\.jpg: expected a \.trit file/)
    expect(() => recognise(files('a/1.txt', 'a/2.txt'))).toThrow(/2 other files/)
  })
})

describe('a drop', () => {
  interface Entry {
    isFile: boolean
    isDirectory: boolean
    fullPath: string
  }
  const fileEntry = (fullPath: string) => ({
    isFile: true,
    isDirectory: false,
    fullPath,
    file: (done: (file: File) => void) => done(new File(['x'], fullPath.split('/').at(-1)!)),
  })
  /** Browsers hand out the children of a folder in batches, the last of them empty. */
  const folderEntry = (fullPath: string, children: Entry[]) => ({
    isFile: false,
    isDirectory: true,
    fullPath,
    createReader() {
      const batches = [...children.map((child) => [child]), []]
      return { readEntries: (done: (batch: Entry[]) => void) => done(batches.shift() ?? []) }
    },
  })
  const drop = (entries: (Entry | null)[], loose: File[] = []) =>
    ({
      files: loose,
      items: entries.map((entry) => ({ webkitGetAsEntry: () => entry })),
    }) as unknown as DataTransfer

  test('of a folder brings all that is in it, with its paths', async () => {
    const poet = folderEntry('/poet', [
      fileEntry('/poet/adapter_config.json'),
      folderEntry('/poet/checkpoint-10', [fileEntry('/poet/checkpoint-10/adapter_model.safetensors')]),
      fileEntry('/poet/adapter_model.safetensors'),
    ])
    const found = await filesOfDrop(drop([poet, null, fileEntry('/notes.txt')]))
    expect(found.map(({ path }) => path)).toEqual([
      'poet/adapter_config.json',
      'poet/checkpoint-10/adapter_model.safetensors',
      'poet/adapter_model.safetensors',
      'notes.txt',
    ])
    expect(recognise(found)).toMatchObject({ kind: 'weights', name: 'poet' })
  })

  test('of files alone brings them as they are, also where entries are unknown', async () => {
    const file = new File(['x'], 'poet.trit')
    expect(await filesOfDrop(drop([fileEntry('/poet.trit')], [file]))).toEqual([{ path: 'poet.trit', file }])
    const items = [{}]
    expect(await filesOfDrop({ files: [file], items } as unknown as DataTransfer)).toHaveLength(1)
  })

  test('of somebody’s home folder ends', async () => {
    const home: Entry = folderEntry(
      '/home',
      Array.from({ length: 3000 }, (_, i) => fileEntry(`/home/${i}`)),
    )
    expect((await filesOfDrop(drop([home]))).length).toBeLessThanOrEqual(1000)
  })
})
