/** Questions that are asked of both, at most: each is answered twice. */
const MAX_QUESTIONS = 4

/**
 * The questions of a text that a visitor gives: of JSON lines with `messages` the first one of the user, else one a line.
 */
export function questionsOf(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim())
  return lines
    .filter(Boolean)
    .map((line) => (line.startsWith('{') ? questionOfChat(line) : line))
    .filter((question) => question !== undefined)
    .slice(0, MAX_QUESTIONS)
}

/** A line that is not a chat is a question as it stands. */
function questionOfChat(line: string): string | undefined {
  try {
    const { messages, prompt } = JSON.parse(line) as { messages?: unknown; prompt?: unknown }
    if (typeof prompt === 'string') return prompt
    if (!Array.isArray(messages)) return undefined
    const asked = (messages as { role?: unknown; content?: unknown }[]).find((each) => each?.role === 'user')
    return typeof asked?.content === 'string' ? asked.content : undefined
  } catch {
    return line
  }
}
