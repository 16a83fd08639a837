/**
 * Which experts `tritswap eval` measures, and on what.
 *
 * @module
 */
import { join } from 'node:path'
import { TritswapError } from '../errors.ts'
import { parseRegistry, type RegistryEntry } from '../source/registry.ts'
import { UsageError } from './command.ts'
import { readText } from './file_source.ts'
import { nameOf, splitAddress } from './place.ts'

export interface Subject {
  id: string
  path: string
  text: string
  finetuned?: string
  /** Bytes, from the registry: for experts whose fine-tuning was not given. */
  f16Delta?: number
}

/** The flags that choose them. */
interface SubjectFlags {
  registry: string
  experts?: string
  demoModel?: string
  expert?: string
  finetuned?: string
  text?: string
}

/** @throws {UsageError} for flags that do not go together, or an expert that the registry does not list */
export async function subjectsOf(values: SubjectFlags): Promise<Subject[]> {
  if (values.expert !== undefined) {
    if (values.text === undefined)
      throw new UsageError('Cannot evaluate --expert: expected --text <file> with it')
    return [
      {
        id: nameOf(values.expert),
        path: values.expert,
        text: values.text,
        finetuned: values.finetuned,
      },
    ]
  }
  if (values.text !== undefined || values.finetuned !== undefined) {
    throw new UsageError('Cannot evaluate: --text and --finetuned belong to --expert <x.trit>')
  }
  const experts = await registryExperts(values.registry, values.experts)
  const { folder } = splitAddress(values.registry)
  const demo = values.demoModel
  return experts.map((entry) => {
    if (entry.text === undefined) {
      throw new TritswapError('input', `Cannot evaluate ${entry.id}: its registry entry names no text`, {
        fields: { id: entry.id },
      })
    }
    return {
      id: entry.id,
      path: `${folder}/${entry.url}`,
      text: `${folder}/${entry.text}`,
      finetuned: demo && join(demo, 'finetuned', entry.variantOf ?? entry.id),
      f16Delta: entry.replaces?.f16Delta,
    }
  })
}

/**
 * The experts of a registry.
 * @param ids - only these, separated by commas
 * @throws {UsageError} for one that the registry does not list
 */
export async function registryExperts(path: string, ids?: string): Promise<readonly RegistryEntry[]> {
  const { experts } = parseRegistry(await readText(path), path)
  const wanted = ids?.split(',')
  for (const id of wanted ?? []) {
    if (!experts.some((entry) => entry.id === id)) {
      throw new UsageError(
        `Cannot evaluate ${id}: expected one of ${experts.map((entry) => entry.id).join(', ')}`,
      )
    }
  }
  return experts.filter(({ id }) => wanted === undefined || wanted.includes(id))
}
