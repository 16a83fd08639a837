import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParamsBase,
  ChatCompletionMessageParam,
} from 'openai/resources/chat/completions/completions'
import { TritswapError } from '../errors.ts'
import type {
  ChatMessage,
  Expert,
  ExpertLoader,
  GeneratedToken,
  GenerateOptions,
  GenerationResult,
  ResponseFormat,
} from '../loader/index.ts'

/** What answers. */
export interface ChatHost {
  loader: Pick<ExpertLoader, 'info' | 'generate'>
  experts: Readonly<Record<string, Expert>>
}

/** An expert and its weight, as llama.cpp's server names them; 1 is as made. */
export interface LoraChoice {
  id: string
  scale?: number
}

/**
 * A request of OpenAI's API. `model` is the base's name, or the id of an expert, which then answers; `lora` names several,
 * with weights. Of the rest `messages` of text, `stream`, `stream_options`, `seed`, `stop`, `temperature`, `top_p`,
 * `max_completion_tokens`, `max_tokens` and `response_format` count: an answer that is JSON by a schema ends with
 * `finish_reason: 'stop'`, and one that was cut with `'length'`. What cannot be had is refused: `tools`, `n` above 1, and
 * `logprobs`.
 */
export type CreateParams = ChatCompletionCreateParamsBase & { lora?: readonly LoraChoice[] }

export interface CreateOptions {
  signal?: AbortSignal
}

export interface ChatCompletions {
  /**
   * Rejects with {@link TritswapError}: `input` for a request that is wrong, `unsupported` for what cannot be had, and as
   * `generate` of the loader does.
   */
  create(params: CreateParams & { stream?: false | null }, options?: CreateOptions): Promise<ChatCompletion>
  create(
    params: CreateParams & { stream: true },
    options?: CreateOptions,
  ): Promise<AsyncIterable<ChatCompletionChunk>>
  create(
    params: CreateParams,
    options?: CreateOptions,
  ): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>>
}

export function chatCompletions(host: ChatHost): ChatCompletions {
  const create = async (params: CreateParams, { signal }: CreateOptions = {}) => {
    const call = { ...settingsOf(params), experts: expertsOf(params, host), signal }
    const messages = params.messages.map(messageOf)
    const head = { id: `chatcmpl-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000) }
    const answer: Answer = { ...head, model: params.model }
    const generation = host.loader.generate(messages, call)
    if (!params.stream) return completionOf(answer, await generation.result)
    return chunksOf(answer, generation, params.stream_options?.include_usage === true)
  }
  return { create: create as ChatCompletions['create'] }
}

/** What all parts of an answer say of it. */
interface Answer {
  id: string
  created: number
  model: string
}

function completionOf(answer: Answer, result: GenerationResult): ChatCompletion {
  const message = { role: 'assistant' as const, content: result.text, refusal: null }
  return {
    ...answer,
    object: 'chat.completion',
    choices: [{ index: 0, message, finish_reason: finishReasonOf(result), logprobs: null }],
    usage: usageOf(result),
  }
}

async function* chunksOf(
  answer: Answer,
  generation: AsyncGenerator<GeneratedToken, GenerationResult, void>,
  withUsage: boolean,
): AsyncGenerator<ChatCompletionChunk, void, void> {
  type Choice = ChatCompletionChunk['choices'][number]
  const chunk = (choices: Choice[]): ChatCompletionChunk => ({
    ...answer,
    object: 'chat.completion.chunk',
    choices,
  })
  const piece = (delta: Choice['delta'], finish_reason: Choice['finish_reason'] = null) =>
    chunk([{ index: 0, delta, finish_reason, logprobs: null }])
  try {
    yield piece({ role: 'assistant', content: '' })
    for (;;) {
      const { done, value } = await generation.next()
      if (done) {
        yield piece({}, finishReasonOf(value))
        if (withUsage) yield { ...chunk([]), usage: usageOf(value) }
        return
      }
      if (value.text !== '') yield piece({ content: value.text })
    }
  } finally {
    // A reader that leaves ends the generation.
    await generation.return(undefined as never)
  }
}

function finishReasonOf({ finishReason }: GenerationResult): 'stop' | 'length' {
  return finishReason === 'length' ? 'length' : 'stop'
}

function usageOf({ usage: { promptTokens, newTokens } }: GenerationResult): ChatCompletion['usage'] {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: newTokens,
    total_tokens: promptTokens + newTokens,
  }
}

function expertsOf({ model, lora }: CreateParams, { loader, experts }: ChatHost) {
  const known = (id: string): Expert => {
    if (Object.hasOwn(experts, id)) return experts[id]
    const ids = [loader.info.name, ...Object.keys(experts)]
    throw new TritswapError('input', `Cannot answer as ${id}: expected one of ${ids.join(', ')}`, {
      fields: { model: id, found: ids },
    })
  }
  if (lora !== undefined && lora !== null)
    return lora.map(({ id, scale = 1 }) => ({ expert: known(id), weight: scale }))
  return model === loader.info.name ? [] : [{ expert: known(model), weight: 1 }]
}

function settingsOf(params: CreateParams): GenerateOptions {
  refuseUnsupported(params)
  const { temperature, top_p, seed, stop } = params
  const settings = {
    maxNewTokens: params.max_completion_tokens ?? params.max_tokens,
    temperature,
    topP: top_p,
    seed,
    stop,
    responseFormat: responseFormatOf(params.response_format),
  }
  // In that API null says as much as nothing.
  const set = Object.entries(settings).filter(([, value]) => value !== undefined && value !== null)
  return Object.fromEntries(set)
}

function responseFormatOf(format: CreateParams['response_format'] | null): ResponseFormat | undefined {
  if (format?.type !== 'json_schema') return format ?? undefined
  const { schema, strict } = format.json_schema
  // Without a schema any object will do, as on OpenAI's own servers.
  if (schema === undefined) return { type: 'json_object' }
  return { type: 'json_schema', schema, ...(strict === false && { strict }) }
}

function refuseUnsupported(params: CreateParams): void {
  const { n, tools, functions, logprobs, modalities } = params
  const asked = {
    'n above 1': (n ?? 1) > 1,
    tools: (tools ?? functions ?? []).length > 0,
    logprobs: logprobs === true,
    'modalities besides text': (modalities ?? []).some((modality) => modality !== 'text'),
  }
  const [unsupported] = Object.entries(asked).find(([, isAsked]) => isAsked) ?? []
  if (unsupported === undefined) return
  throw new TritswapError('unsupported', `Cannot answer with ${unsupported}: leave it out`, {
    fields: { parameter: unsupported },
  })
}

/** Roles of OpenAI's API that chat templates do not know, by those that they do. */
const ROLES: Partial<Record<ChatCompletionMessageParam['role'], ChatMessage['role']>> = {
  developer: 'system',
  system: 'system',
  user: 'user',
  assistant: 'assistant',
}

function messageOf(message: ChatCompletionMessageParam): ChatMessage {
  const role = ROLES[message.role]
  if (role === undefined) {
    throw new TritswapError('unsupported', `Cannot read a message of the role ${message.role}`, {
      fields: { role: message.role },
    })
  }
  const { content } = message
  if (typeof content === 'string') return { role, content }
  const texts = (content ?? []).map((part) => {
    if (part.type === 'text') return part.text
    throw new TritswapError('unsupported', `Cannot read a message part of the type ${part.type}: give text`, {
      fields: { type: part.type },
    })
  })
  return { role, content: texts.join('') }
}
