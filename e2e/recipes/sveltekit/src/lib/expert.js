import { readable } from 'svelte/store'
import { ExpertLoader } from 'tritswap'

/** A store of a base with one expert in hand; undefined while it loads, and on the server. */
export const expertStore = (model, expert) =>
  readable(undefined, (set) => {
    if (typeof window === 'undefined') return
    const controller = new AbortController()
    const loading = ExpertLoader.create({ model, signal: controller.signal })
    loading.then(async (loader) => {
      await loader.activate(await loader.load(expert))
      set(loader)
    }, console.error)
    return () => {
      controller.abort()
      loading.then(
        (loader) => loader.dispose(),
        () => {},
      )
    }
  })
