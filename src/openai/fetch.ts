import type { ChatCompletionChunk } from 'openai/resources/chat/completions/completions'
import { abortError, isAbortError, isTritswapError, TritswapError, toError } from '../errors.ts'
import type { ChatCompletions, ChatHost, CreateParams } from './chat_completions.ts'

/** A `fetch` that answers clients of OpenAI's API in place of a server. */
export function fetchOf(host: ChatHost, completions: ChatCompletions): typeof globalThis.fetch {
  return async (input, init) => {
    const request = new Request(input, init)
    request.signal.throwIfAborted()
    try {
      return await answer(host, completions, request)
    } catch (error) {
      if (isAbortError(error)) throw error
      return failure(error)
    }
  }
}

async function answer(host: ChatHost, completions: ChatCompletions, request: Request): Promise<Response> {
  const { pathname } = new URL(request.url)
  const { signal, method } = request
  if (method === 'GET' && pathname.endsWith('/models')) return Response.json(modelsOf(host))
  if (method !== 'POST' || !pathname.endsWith('/chat/completions')) {
    const known = 'POST …/chat/completions and GET …/models'
    throw new TritswapError('unsupported', `Cannot answer ${method} ${pathname}: expected ${known}`)
  }
  const params = await paramsOf(request)
  if (!params.stream) return Response.json(await completions.create({ ...params, stream: false }, { signal }))
  const chunks = await completions.create({ ...params, stream: true }, { signal })
  return new Response(eventsOf(chunks[Symbol.asyncIterator](), signal), {
    headers: { 'Content-Type': 'text/event-stream' },
  })
}

async function paramsOf(request: Request): Promise<CreateParams> {
  const params = await request.json().catch(() => undefined)
  if (Array.isArray(params?.messages) && typeof params.model === 'string') return params
  throw new TritswapError('input', 'Cannot answer: expected JSON with a model and a list of messages')
}

/** Server-sent events, one a chunk; a reader that is slow holds the model back. */
function eventsOf(
  chunks: AsyncIterator<ChatCompletionChunk>,
  signal: AbortSignal,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  const event = (data: unknown) => encoder.encode(`data: ${JSON.stringify(data)}\n\n`)
  return new ReadableStream(
    {
      async pull(controller) {
        try {
          const { done, value } = await chunks.next()
          if (!done) return controller.enqueue(event(value))
          controller.enqueue(encoder.encode('data: [DONE]\n\n'))
        } catch (error) {
          if (signal.aborted) return controller.error(abortError(signal))
          // The head of the answer is out: clients take an error for one that stands in the stream.
          controller.enqueue(event(errorOf(error)))
        }
        controller.close()
      },
      async cancel() {
        await chunks.return?.()
      },
    },
    { highWaterMark: 0 },
  )
}

function modelsOf({ loader, experts }: ChatHost) {
  const data = [loader.info.name, ...Object.keys(experts)].map((id) => ({
    id,
    object: 'model',
    created: 0,
    owned_by: 'tritswap',
  }))
  return { object: 'list', data }
}

function failure(error: unknown): Response {
  const status = isTritswapError(error, 'input') || isTritswapError(error, 'unsupported') ? 400 : 500
  // Clients try 5xx again, of which nothing here would be the better.
  return Response.json(errorOf(error), { status, headers: { 'x-should-retry': 'false' } })
}

function errorOf(error: unknown) {
  const { message } = toError(error)
  const tag = isTritswapError(error) ? error.tag : null
  return { error: { message, type: tag ?? 'error', param: null, code: tag } }
}
