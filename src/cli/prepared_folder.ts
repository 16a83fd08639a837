import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { placeOf } from './place.ts'
import { MANIFEST, type PrepareOptions, prepareModel } from './prepare_model.ts'

/** A folder that `tritswap prepare` wrote. */
export interface PreparedFolder {
  folder: string
  /** Whether it was there before. */
  isOwn: boolean
  /** Weights that stay out of reach of experts, as far as it was prepared here. */
  unmatched: string[]
}

/** Prepares a model into a folder that is removed afterwards, unless it is prepared already. */
export async function withPreparedFolder<T>(
  model: string,
  options: PrepareOptions,
  use: (prepared: PreparedFolder) => Promise<T>,
): Promise<T> {
  const { place, file } = await placeOf(model)
  const files = await place.list()
  if (files.includes(MANIFEST) && (file === undefined || file === MANIFEST)) {
    return use({ folder: await place.whole(), isOwn: true, unmatched: [] })
  }
  const folder = await mkdtemp(join(tmpdir(), 'tritswap-prepared-'))
  try {
    const { unmatched } = await prepareModel(model, folder, options)
    return await use({ folder, isOwn: false, unmatched })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
