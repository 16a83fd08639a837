import type { OpenExpert } from '../compress/open_expert.ts'
import { readHead } from '../format/head.ts'
import { openFile } from './file_source.ts'

/** Opens expert files, and closes them when `use` is done or failed. */
export async function withExpertFiles<T>(
  paths: readonly string[],
  use: (experts: OpenExpert[]) => Promise<T>,
): Promise<T> {
  const opened: { close(): Promise<void> }[] = []
  try {
    const experts: OpenExpert[] = []
    for (const path of paths) {
      const source = await openFile(path)
      opened.push(source)
      experts.push({ source, head: await readHead(source) })
    }
    return await use(experts)
  } finally {
    for (const source of opened) await source.close()
  }
}
