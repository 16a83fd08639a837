/**
 * A run of this page that `npm run record` wrote down, to be shown before anything is loaded: what each pen made of one
 * beginning, how long that took, and of which files.
 *
 * @module
 */
import { Validator } from '@cfworker/json-schema'
import schema from '../../schema/recording.schema.json' with { type: 'json' }
import { TritswapError } from '../errors.ts'

/** A pen of the recorded run, and what it wrote. */
export interface RecordedVoice {
  /** Id of the expert; `''` is the base. */
  id: string
  label: string
  ink: number
  /** Bytes of its file, and of the 16-bit change of weights that the file stands for; 0 for the base. */
  bytes: number
  whole: number
  /** ms of decoding and applying the file that lay in VRAM, and of taking it off again; 0 for the base. */
  putOnMs: number
  takeOffMs: number
  /** Text and ms of each token. */
  tokens: readonly (readonly [text: string, ms: number])[]
}

export interface Recording {
  version: 1
  /** Day of the run, YYYY-MM-DD. */
  on: string
  adapter: { name: string; software: boolean }
  /** What all voices went on from, or were asked. */
  begin: string
  mode: 'manuscript' | 'chat'
  temperature: number
  seed: number
  /** ms from the first request for the base to the moment when it could write. */
  loadMs: number
  voices: readonly RecordedVoice[]
  /** SHA-256 in hex of each file of this site that the run fetched, by its path. */
  files: Readonly<Record<string, string>>
}

/**
 * Reads a recording of this site.
 * @param url - absolute, or relative to the page
 * @throws {TritswapError} `network`; `format` if it is not one that this page can show
 */
export async function readRecording(url: string): Promise<Recording> {
  const response = await fetch(url)
  if (!response.ok) {
    throw new TritswapError('network', `Cannot fetch ${url}: the server answered ${response.status}`, {
      fields: { url, status: response.status },
    })
  }
  return parseRecording(await response.json(), url)
}

/**
 * @param name - for messages
 * @throws {TritswapError} `format` if it is not one that this page can show
 */
export function parseRecording(value: unknown, name: string): Recording {
  const { valid, errors } = new Validator(schema as object, '2020-12').validate(value)
  if (valid) return value as Recording
  // The last error is the innermost one.
  const { instanceLocation, error } = errors.at(-1)!
  throw new TritswapError(
    'format',
    `Cannot show ${name}: expected a recording of version 1, found at ${instanceLocation}: ${error} Run "npm run record"`,
    { fields: { name } },
  )
}
