import { useEffect, useState } from 'react'
import { ExpertLoader } from 'tritswap'

/** A base with one expert in hand; undefined while it loads. */
export function useExpert(model, expert) {
  const [loader, setLoader] = useState()
  useEffect(() => {
    const controller = new AbortController()
    const loading = ExpertLoader.create({ model, signal: controller.signal })
    loading.then(async (loaded) => {
      await loaded.activate(await loaded.load(expert))
      setLoader(loaded)
    }, console.error)
    return () => {
      controller.abort()
      loading.then(
        (loaded) => loaded.dispose(),
        () => {},
      )
    }
  }, [model, expert])
  return loader
}
