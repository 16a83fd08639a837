import { type Checkpoint, openCheckpoint } from '../compress/checkpoint.ts'
import { type Chat, chatExample, type Example } from '../engine/answered_example.ts'
import { isTritswapError } from '../errors.ts'
import { readHead } from '../format/index.ts'
import { ANSWER_COLUMNS, type AnswerFigures, answerCells, answerFigures } from './answer_figures.ts'
import { parseChats } from './chats.ts'
import { registryExperts } from './eval_subjects.ts'
import type { Evaluation } from './evaluation.ts'
import { openFile, openPath, readText } from './file_source.ts'
import { formatBytes, formatTable } from './format_text.ts'
import { groupedBy } from './grouped_by.ts'
import { openCheckpointAt } from './inputs.ts'
import type { LogitsFile } from './logits_file.ts'
import { nameOf, splitAddress } from './place.ts'
import { progressBar } from './progress.ts'
import type { ExampleScore } from './scores.ts'
import { fileBytes, uncompressedVariant } from './uncompressed.ts'
import { expertVariant, type Variant } from './variants.ts'

/** The flags of `eval --chats`. */
export interface ChatFlags {
  base: string
  chats: string
  registry: string
  experts?: string
  system?: string
  checkpoint?: string
  limit?: number
  /** All flags as they were given. */
  order: readonly { flag: string; path: string }[]
}

/** A model that answered. */
export interface ModelAnswers extends AnswerFigures {
  name: string
  kind: 'base' | 'uncompressed' | 'expert'
  file?: string
  /** Of the file. */
  bytes?: number
  /** Of the task vector in f16. */
  f16Bytes?: number
  /** The uncompressed expert that it is compared with. */
  uncompressed?: string
  system?: string
}

export interface AnswersReport {
  chats: string
  n: number
  /** Tokens of the answers. */
  tokens: number
  models: ModelAnswers[]
}

/** An expert, or what experts are compared with. */
export interface Subject {
  name: string
  file: string
  system?: string
  /** What an expert is compared with; undefined for what is uncompressed itself. */
  uncompressed?: string
  isExpert: boolean
}

/**
 * Measures experts and uncompressed fine-tunings on chats with wanted answers, those with one system text together.
 * @throws {TritswapError} `input` for chats that cannot be read
 */
export async function evaluateChats(evaluation: Evaluation, flags: ChatFlags): Promise<AnswersReport> {
  const subjects = await subjectsOf(flags)
  const chats = parseChats(await readText(flags.chats), flags.chats).slice(0, flags.limit)
  const checkpoint = await checkpointOf(flags)
  const groups = groupedBy(subjects, ({ system }) => system)
  if (groups.size === 0) groups.set(flags.system, [])
  const report: AnswersReport = { chats: flags.chats, n: chats.length, tokens: 0, models: [] }
  const bar = progressBar('evaluating')
  const steps = (subjects.length + groups.size) * chats.length
  let done = 0
  try {
    for (const [system, group] of groups) {
      const run = new ChatRun(evaluation, chats, system, () => bar.update(++done, steps))
      report.tokens = run.examples.reduce((sum, { ids, first }) => sum + ids.length - first, 0)
      report.models.push(...(await run.measure(group, checkpoint)))
    }
  } finally {
    bar.stop()
  }
  return report
}

/** The models of one system text on the chats. */
class ChatRun {
  readonly examples: readonly Example[]
  readonly #evaluation: Evaluation
  readonly #system: string | undefined
  readonly #onExample: () => void

  constructor(
    evaluation: Evaluation,
    chats: readonly Chat[],
    system: string | undefined,
    onExample: () => void,
  ) {
    this.#evaluation = evaluation
    this.#system = system
    this.#onExample = onExample
    this.examples = chats.map((chat) => chatExample(chat, evaluation.tokenizer.template, system))
  }

  /** @param subjects - what experts are compared with before them */
  async measure(subjects: readonly Subject[], checkpoint?: Checkpoint): Promise<ModelAnswers[]> {
    const { base } = this.#evaluation
    const baseRun = await this.#score('base', {})
    const figures = answerFigures(baseRun.scores, {})
    const models: ModelAnswers[] = [{ name: 'base', kind: 'base', system: this.#system, ...figures }]
    const uncompressed = new Map<string, Kept>()
    for (const subject of subjects) {
      const { file, name, isExpert } = subject
      const scratch = this.#evaluation.scratch('adapter.trit')
      const variant = isExpert
        ? await expertVariant(base, file)
        : await uncompressedVariant(base, file, scratch, checkpoint)
      const reference =
        subject.uncompressed === undefined ? undefined : uncompressed.get(subject.uncompressed)
      const others = reference === undefined ? [baseRun] : [baseRun, reference]
      const run = await this.#score(name, variant, others, !isExpert)
      if (!isExpert) uncompressed.set(file, run)
      await variant.close()
      models.push({
        name,
        kind: isExpert ? 'expert' : 'uncompressed',
        file,
        bytes: await fileBytes(file),
        f16Bytes: variant.f16Bytes,
        uncompressed: reference?.name,
        system: this.#system,
        ...answerFigures(run.scores, {
          toBase: { at: 0, scores: baseRun.scores },
          toUncompressed: reference && { at: 1, scores: reference.scores },
        }),
      })
    }
    for (const { logits } of [baseRun, ...uncompressed.values()]) await logits?.close()
    return models
  }

  async #score(
    name: string,
    variant: Partial<Variant>,
    others: readonly Kept[] = [],
    isKept = true,
  ): Promise<Kept> {
    const logits = isKept ? await this.#evaluation.logitsFile() : undefined
    const beside = others.map((other) => other.logits!)
    const scores = await this.#evaluation.score(this.examples, variant, {
      beside,
      keep: logits,
      onExample: this.#onExample,
    })
    return { name, scores, logits }
  }
}

/** Scores of a model, and its logits where others are compared with it. */
interface Kept {
  name: string
  scores: readonly ExampleScore[]
  logits?: LogitsFile
}

/** What the flags name, those first that others are compared with. @throws {UsageError} as {@link registryExperts} */
export async function subjectsOf({
  order,
  system,
  registry,
  experts,
}: Pick<ChatFlags, 'order' | 'system' | 'registry' | 'experts'>): Promise<Subject[]> {
  const given = order.filter(({ flag }) => ['expert', 'adapter', 'finetuned'].includes(flag))
  const uncompressed = given.filter(({ flag }) => flag !== 'expert')
  const found = given.flatMap(({ flag, path }, i) => {
    const before = given.slice(0, i).findLast((other) => other.flag !== 'expert') ?? uncompressed[0]
    return flag === 'expert' ? [{ name: nameOf(path), file: path, uncompressed: before?.path }] : []
  })
  if (found.length === 0 && (given.length === 0 || experts !== undefined)) {
    for (const { id, url } of await registryExperts(registry, experts))
      found.push({
        name: id,
        file: `${splitAddress(registry).folder}/${url}`,
        uncompressed: uncompressed[0]?.path,
      })
  }
  const compressed: Subject[] = []
  for (const expert of found)
    compressed.push({ ...expert, system: system ?? (await systemOf(expert.file)), isExpert: true })
  return [
    ...uncompressed.flatMap(({ path }) => {
      // As many times as experts with different system texts are compared with it.
      const beside = compressed.filter((expert) => expert.uncompressed === path)
      const systems = new Set(beside.length === 0 ? [system] : beside.map((expert) => expert.system))
      return Array.from(systems, (own) => {
        return { name: nameOf(path), file: path, system: own, isExpert: false }
      })
    }),
    ...compressed,
  ]
}

/** The system text that belongs to a skill. */
async function systemOf(path: string): Promise<string | undefined> {
  const file = await openFile(path)
  try {
    return (await readHead(file)).table.system
  } finally {
    await file.close()
  }
}

/** The checkpoint of the base, where there is one. */
export async function checkpointOf({
  checkpoint,
  base,
}: Pick<ChatFlags, 'checkpoint' | 'base'>): Promise<Checkpoint | undefined> {
  if (checkpoint !== undefined) return openCheckpointAt(checkpoint)
  try {
    return await openCheckpoint(await openPath(base))
  } catch (error) {
    if (isTritswapError(error, 'input') || isTritswapError(error, 'unsupported')) return undefined
    throw error
  }
}

/** The report for people. */
export function answersTable({ n, tokens, models }: AnswersReport): string {
  const table = formatTable(
    ['model', 'size', '× f16', ...ANSWER_COLUMNS],
    models.map(({ name, kind, bytes, f16Bytes, ...figures }) => [
      name,
      bytes === undefined ? '' : formatBytes(bytes),
      kind !== 'expert' || bytes === undefined || f16Bytes === undefined
        ? ''
        : `${(f16Bytes / bytes).toFixed(0)}×`,
      ...answerCells(figures),
    ]),
  )
  return `${table}\n\n${n} chats, ${tokens} tokens of answers; ± is the standard error`
}
