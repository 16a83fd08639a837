import { TritswapError } from '../errors.ts'

/** More files than any adapter or sharded checkpoint has: reading stops here, e.g. in a home folder. */
const MAX_FILES = 1000

/** A file and its path in the folder that was brought; for a single file, its name. */
export interface BroughtFile {
  path: string
  file: File
}

/** What a set of files is that a visitor brought. */
export type Brought =
  | { kind: 'expert'; file: File }
  /** Files of an adapter or of a checkpoint, to be compressed, and a text or chats to compare it on. */
  | { kind: 'weights'; name: string; files: File[]; text?: File }

const WEIGHTS = /\.(safetensors|bin|pt|pth|ckpt|pkl)$|^adapter_config\.json$|\.safetensors\.index\.json$/

/**
 * Tells by the names of the files what was brought. Among nested folders, the uppermost one with weights counts: trainers
 * leave intermediate states below it.
 * @throws {TritswapError} `input` naming what was expected
 */
export function recognise(brought: readonly BroughtFile[]): Brought {
  const expert = brought.find(({ file }) => /\.trit$/i.test(file.name))
  if (expert !== undefined) return { kind: 'expert', file: expert.file }
  const [uppermost] = brought
    .filter(({ file }) => WEIGHTS.test(file.name))
    .sort((a, b) => depthOf(a.path) - depthOf(b.path))
  if (uppermost === undefined) {
    const found = brought.length === 1 ? brought[0].file.name : `${brought.length} other files`
    throw new TritswapError(
      'input',
      `Cannot use ${found}: expected a .trit file, the folder of a peft adapter (adapter_config.json and adapter_model.safetensors), or the safetensors of a fine-tuning`,
    )
  }
  const folder = folderOf(uppermost.path)
  const inFolder = brought.filter(({ path }) => folderOf(path) === folder).map(({ file }) => file)
  const files = inFolder.filter(({ name }) => WEIGHTS.test(name))
  const adapter = files.find(({ name }) => /^adapter_model\./.test(name))
  if (adapter !== undefined && !files.some(({ name }) => name === 'adapter_config.json')) {
    throw new TritswapError(
      'input',
      `Cannot use ${adapter.name} alone: rank and scaling are in the adapter_config.json beside it; bring both, or the whole folder`,
    )
  }
  return {
    kind: 'weights',
    name:
      folder.split('/').at(-1) || (adapter === undefined ? files[0].name.replace(WEIGHTS, '') : 'adapter'),
    files,
    text: inFolder.find(({ name }) => /\.(txt|jsonl)$/i.test(name)),
  }
}

function folderOf(path: string): string {
  return path.split('/').slice(0, -1).join('/')
}

function depthOf(path: string): number {
  return path.split('/').length
}

/** The files of an input for files or for a folder. */
export function filesOfInput(input: HTMLInputElement): BroughtFile[] {
  return [...(input.files ?? [])].map((file) => ({ path: file.webkitRelativePath || file.name, file }))
}

/** The files that were dropped, including all files in dropped folders. Must be called while the event is handled. */
export async function filesOfDrop(transfer: DataTransfer): Promise<BroughtFile[]> {
  const plain = [...transfer.files].map((file) => ({ path: file.name, file }))
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? undefined)
  if (!entries.some((entry) => entry?.isDirectory)) return plain
  const found: BroughtFile[] = []
  for (const entry of entries) if (entry !== undefined) await collect(entry, found)
  return found
}

async function collect(entry: FileSystemEntry, found: BroughtFile[]): Promise<void> {
  if (found.length >= MAX_FILES) return
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    )
    found.push({ path: entry.fullPath.replace(/^\//, ''), file })
    return
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader()
  for (;;) {
    // Entries come in batches; the last batch is empty.
    const batch = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    )
    if (batch.length === 0) return
    for (const child of batch) await collect(child, found)
  }
}
