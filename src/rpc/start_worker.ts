import { TritswapError } from '../errors.ts'

/** The part of Trusted Types that is used here; browsers without them have no such object. */
interface ScriptPolicies {
  createPolicy(
    name: string,
    rules: { createScriptURL(url: string): string },
  ): {
    createScriptURL(url: string): string
  }
}

/** Name of the policy that a page with `trusted-types` in its content security policy has to list. */
const POLICY = 'tritswap'

let policy: ReturnType<ScriptPolicies['createPolicy']> | undefined

/**
 * The address of a worker as pages with `require-trusted-types-for 'script'` demand it. The policy vouches for what
 * {@link startWorker} passes, which are scripts of the library and those made here; nothing else can reach it.
 */
function trusted(url: string): string {
  const { trustedTypes } = globalThis as { trustedTypes?: ScriptPolicies }
  try {
    policy ??= trustedTypes?.createPolicy(POLICY, { createScriptURL: (script) => script })
  } catch (cause) {
    throw new TritswapError(
      'worker',
      `Cannot start a worker: the page's content security policy does not allow the Trusted Types policy ${POLICY}; add its name: trusted-types ${POLICY} lit-html`,
      { cause },
    )
  }
  return policy === undefined ? url : policy.createScriptURL(url)
}

/** Addresses of the scripts made here, by the script that each imports. */
const importers = new Map<string, string>()

/**
 * Starts a module worker wherever its script lies. Browsers refuse worker scripts from other origins, so a script made
 * here imports those: the page needs `worker-src blob:` (in a sandboxed frame `data:`), the other origin
 * `Access-Control-Allow-Origin`. Under Trusted Types the policy `tritswap` makes the address.
 *
 * @param start - takes the constructor and makes the worker in the form that bundlers look for:
 * `(Worker) => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })`
 * @param options - `script` is taken in place of the address there; `fromBlob` makes a script here for one of this origin,
 * too
 */
export function startWorker(
  start: (Constructor: typeof Worker) => Worker,
  options: { script?: string; fromBlob?: boolean } = {},
): Worker {
  return start(
    new Proxy(Worker, {
      construct(Constructor, [address, init]: ConstructorParameters<typeof Worker>) {
        // Bundlers turn the URL into a string.
        const { origin, href } = new URL(options.script ?? address, globalThis.location.href)
        // In a sandboxed frame `location` has the origin of the address, but the frame's own is another: `null`.
        const own = globalThis.origin ?? globalThis.location.origin
        const isDirect = origin === own && !options.fromBlob
        return new Constructor(trusted(isDirect ? href : importerOf(href)), init)
      },
    }),
  )
}

/**
 * Address of a script of this origin that only imports another. It uses `import()`, which content security policies
 * judge as a script; they judge a static `import` as a worker. Loading takes a moment: messages are held back until then.
 */
function importerOf(script: string): string {
  const known = importers.get(script)
  if (known !== undefined) return known
  const code = `const held = []
const hold = (event) => {
  event.stopImmediatePropagation()
  held.push(event)
}
addEventListener('message', hold)
import(${JSON.stringify(script)}).then(
  () => {
    removeEventListener('message', hold)
    for (const { data, ports } of held) dispatchEvent(new MessageEvent('message', { data, ports }))
  },
  (error) => setTimeout(() => { throw error }),
)
`
  // Workers of blob addresses start in no sandboxed frame, or without WebGPU; those of data addresses do.
  const importer =
    globalThis.origin === 'null'
      ? `data:text/javascript,${encodeURIComponent(code)}`
      : URL.createObjectURL(new Blob([code], { type: 'text/javascript' }))
  importers.set(script, importer)
  return importer
}
