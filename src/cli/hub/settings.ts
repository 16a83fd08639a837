import { homedir } from 'node:os'
import { join } from 'node:path'

/** Where the hub is and where its files are kept, under the names of environment variables that Python's tools read. */
export interface HubSettings {
  /** `HF_ENDPOINT`: the hub or a mirror of it, without a slash at the end. */
  endpoint: string
  /** `HF_TOKEN`: for private and gated repositories. It goes to the endpoint only, and is never printed. */
  token: string | undefined
  /** `HF_HUB_CACHE`, else `hub` in `HF_HOME`. */
  cache: string
  /** `HF_HUB_OFFLINE`: nothing is asked of the network. */
  isOffline: boolean
}

export function hubSettings(env: NodeJS.ProcessEnv = process.env): HubSettings {
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface')
  return {
    endpoint: (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, ''),
    token: env.HF_TOKEN?.trim() || undefined,
    cache: env.HF_HUB_CACHE || join(home, 'hub'),
    isOffline: /^(1|true|yes|on)$/i.test(env.HF_HUB_OFFLINE ?? ''),
  }
}
