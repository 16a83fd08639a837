/** How long a button says that it has copied, in ms. */
export const COPIED_MS = 2000

/** Copies a text. @returns what the button says then: some pages may not write to the clipboard */
export function copyText(text: string): Promise<string> {
  return navigator.clipboard.writeText(text).then(
    () => 'Copied',
    () => 'Select it and copy',
  )
}
