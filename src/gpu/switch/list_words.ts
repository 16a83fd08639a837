import type { TypeDefinition } from 'webgpu-utils'
import { ALIGNMENT } from '../batch.ts'
import type { StreamParams } from '../job.ts'
import type { Params } from '../kernel.ts'
import { fieldOf, fieldWords, type Write, writerOf } from '../struct_writer.ts'

/** What of a job its tensor alone does not tell. */
const JOB_FIELDS = ['first_block', 'end_block', 'reverted', 'applied', 'first_stream', 'first_group'] as const
const STREAM_FIELDS = ['index', 'codec', 'value', 'journal'] as const
const CODE_FIELDS = ['words', 'm', 'low', 'cut'] as const

/**
 * Lists of jobs on their way to the GPU, laid out as shaders/shared/job_list.wgsl says. A switch of a model packs hundreds of jobs,
 * so their words are set one by one: a writer that looks each field up by its name takes longer than all the rest.
 */
export class ListWords {
  /** Bytes that the GPU binds for a list, and those from one list to the next. */
  readonly size: number
  readonly step: number
  readonly #count: number
  readonly #jobs: { word: number; words: number; fields: Record<(typeof JOB_FIELDS)[number], number> }
  readonly #streams: { word: number; words: number; fields: Record<(typeof STREAM_FIELDS)[number], number> }
  readonly #code: Record<(typeof CODE_FIELDS)[number], number>
  readonly #writeJob: Write
  /** What a list leaves unused is what the one before it had there. */
  #words = new Uint32Array(0)
  #floats = new Float32Array(0)

  /** @param list - the type of the uniform */
  constructor(list: TypeDefinition) {
    const [jobs, streams] = [fieldOf(list, 'jobs'), fieldOf(list, 'streams')]
    const code = fieldOf(streams.type, 'code')
    const codeWords = fieldWords(code.type, CODE_FIELDS)
    this.size = list.size
    this.step = Math.ceil(list.size / ALIGNMENT) * ALIGNMENT
    this.#count = fieldOf(list, 'count').word
    this.#jobs = { word: jobs.word, words: jobs.type.size / 4, fields: fieldWords(jobs.type, JOB_FIELDS) }
    this.#streams = {
      word: streams.word,
      words: streams.type.size / 4,
      fields: fieldWords(streams.type, STREAM_FIELDS),
    }
    this.#code = {
      words: code.word + codeWords.words,
      m: code.word + codeWords.m,
      low: code.word + codeWords.low,
      cut: code.word + codeWords.cut,
    }
    this.#writeJob = writerOf(jobs.type)
  }

  /** The bytes of as many lists from the first one on. */
  bytes(lists: number): { buffer: ArrayBuffer; size: number } {
    return { buffer: this.#words.buffer, size: lists * this.step }
  }

  /** The words of a job as far as its tensor tells. */
  templateOf(header: Params): Uint32Array {
    const template = new Uint32Array(this.#jobs.words)
    this.#writeJob(header, new DataView(template.buffer), 0)
    return template
  }

  /** Makes room for a list. */
  start(list: number): void {
    const words = ((list + 1) * this.step) / 4
    if (this.#words.length >= words) return
    const larger = new Uint32Array(2 * words)
    larger.set(this.#words)
    this.#words = larger
    this.#floats = new Float32Array(larger.buffer)
  }

  /** Writes job `number` of a list, which has as many jobs then as were written. */
  setJob(
    list: number,
    number: number,
    template: Uint32Array,
    job: Record<(typeof JOB_FIELDS)[number], number>,
  ): void {
    const words = this.#words
    const first = (list * this.step) / 4
    const { word, words: step, fields } = this.#jobs
    const at = first + word + number * step
    words.set(template, at)
    words[at + fields.first_block] = job.first_block
    words[at + fields.end_block] = job.end_block
    words[at + fields.reverted] = job.reverted
    words[at + fields.applied] = job.applied
    words[at + fields.first_stream] = job.first_stream
    words[at + fields.first_group] = job.first_group
    words[first + this.#count] = number + 1
  }

  setStream(list: number, number: number, { code, index, codec, value, journal }: StreamParams): void {
    const words = this.#words
    const { word, words: step, fields } = this.#streams
    const at = (list * this.step) / 4 + word + number * step
    words[at + this.#code.words] = code.words
    words[at + this.#code.m] = code.m
    words[at + this.#code.low] = code.low
    words[at + this.#code.cut] = code.cut
    words[at + fields.index] = index
    words[at + fields.codec] = codec
    words[at + fields.journal] = journal
    this.#floats[at + fields.value] = value
  }
}
