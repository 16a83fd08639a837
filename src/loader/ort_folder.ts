/** Where the build puts onnxruntime-web's files, as seen from its scripts. */
declare const __TRITSWAP_ORT__: string

/**
 * URL of the folder of onnxruntime-web's files, with a slash at its end.
 * @param given - by the page, relative to `base`; without it, the folder that comes with this library
 */
export function ortFolder(given: string | URL | undefined, base: string): string {
  if (given === undefined) return new URL(__TRITSWAP_ORT__, import.meta.url).href
  return new URL(`${String(given).replace(/\/+$/, '')}/`, base).href
}
