import { TritswapError } from '../errors.ts'
import { centroidTable } from '../route/centroid_table.ts'
import { centroidsOf } from '../route/centroids.ts'
import { type Route, type RoutedNames, routeIn, THRESHOLD } from '../route/route.ts'
import { jsonOption, newCommand, several, UsageError } from './command.ts'
import { formatTable } from './format_text.ts'
import { print, printText } from './print.ts'
import { readCentroids, readRegistryFiles } from './registry_files.ts'
import { requestsById } from './requests.ts'

const DESCRIPTION = `
Says which expert a request is for, or none, as loader.route does: by its likeness to the requests that each expert was made
for. No expert is loaded, and no model. With --chats it prints how many requests of each expert go where.
`

const EXAMPLES = ['tritswap route "turn on the light in the hall" --requests home=chats.jsonl']

export function command() {
  return newCommand('route', DESCRIPTION, EXAMPLES)
    .argument('[request...]')
    .option('--registry <experts.json>', 'its index has the centroids (tritswap registry build --requests)')
    .option(
      '--requests <id=file>',
      'requests that an expert was made for, in place of what the index has; also of one that is not listed',
      several,
    )
    .option(
      '--chats <id=file>',
      'held-out requests of an expert: JSON lines {"user"} or {"messages"}, or a text',
      several,
    )
    .option('--foreign <file>', 'requests that no expert should answer', several)
    .option('--threshold <score>', `what an expert must reach (default: ${THRESHOLD})`)
    .addOption(jsonOption('routes and figures'))
    .action(routed)
}

interface Flags {
  registry?: string
  requests?: string[]
  chats?: string[]
  foreign?: string[]
  threshold?: string
  json?: true
}

/** The column of requests that are left to the base. */
const NONE = 'none'

/** Where requests of one kind went. */
interface Row {
  from: string
  n: number
  /** Requests by the expert that was chosen. */
  to: Record<string, number>
  /** Share that went where it should. */
  right: number
  /** Its standard error. */
  error: number
}

async function routed(texts: readonly string[], values: Flags): Promise<void> {
  const { registry, chats = [], foreign = [] } = values
  if (registry === undefined && values.requests === undefined)
    throw new UsageError('Cannot route: expected --registry <file> or --requests <id=file>')
  const threshold = values.threshold === undefined ? THRESHOLD : Number(values.threshold)
  if (!Number.isFinite(threshold))
    throw new UsageError(`Cannot route: expected a number as --threshold, found ${values.threshold}`)
  const names = await namesOf(registry, values.requests ?? [])
  const route = (text: string) => routeIn(text, names, threshold)
  for (const text of texts) {
    if (values.json) printText(JSON.stringify({ text, ...route(text) }, null, 2))
    else show(route(text), text)
  }
  if (chats.length + foreign.length === 0) {
    if (texts.length === 0) throw new UsageError('Cannot route: expected a request, --chats or --foreign')
    return
  }
  const rows: Row[] = []
  for (const [from, requests] of await requestsById(chats)) rows.push(rowOf(from, requests, route))
  for (const [, requests] of await requestsById(foreign.map((path) => `${NONE}=${path}`)))
    rows.push(rowOf(NONE, requests, route))
  if (values.json) printText(JSON.stringify({ threshold, rows }, null, 2))
  else printText(confusion(rows))
}

/** @throws {TritswapError} `input` where nothing can be routed to */
async function namesOf(registry: string | undefined, given: readonly string[]): Promise<RoutedNames> {
  const requests = await requestsById(given)
  const experts = registry === undefined ? [] : (await readRegistryFiles(registry)).experts
  const indexed = registry === undefined ? undefined : await readCentroids(registry)
  const listed = experts.map(({ id, label, withdrawn }) => ({ id, label, withdrawn }))
  for (const id of requests.keys())
    if (!listed.some((one) => one.id === id)) listed.push({ id, label: id, withdrawn: undefined })
  const table = centroidTable(
    listed.map(({ id }) => {
      const own = requests.get(id)
      return own === undefined ? (indexed?.get(id) ?? []) : centroidsOf(own)
    }),
  )
  if (table.count === 0) {
    throw new TritswapError(
      'input',
      `Cannot route: no expert of ${registry} says what it is for; build it with tritswap registry build --requests <id=file>`,
      { fields: { registry } },
    )
  }
  return {
    table,
    idOf: (owner) => listed[owner]!.id,
    labelOf: (owner) => listed[owner]!.label,
    isWithdrawn: (owner) => listed[owner]!.withdrawn !== undefined,
  }
}

function show(route: Route, text: string): void {
  print(`${route.chosen?.id ?? NONE}\t${text}`)
  print(`  ${route.why}`)
  for (const { id, score } of route.ranking.slice(0, 5)) print(`  ${score.toFixed(3).padStart(6)}  ${id}`)
}

function rowOf(from: string, requests: readonly string[], route: (text: string) => Route): Row {
  const to: Record<string, number> = {}
  for (const text of requests) {
    const id = route(text).chosen?.id ?? NONE
    to[id] = (to[id] ?? 0) + 1
  }
  const n = requests.length
  const right = (to[from] ?? 0) / n
  return { from, n, to, right, error: Math.sqrt((right * (1 - right)) / n) }
}

/** Rows are what was asked, columns who was chosen. */
function confusion(rows: readonly Row[]): string {
  const columns = [
    ...new Set([...rows.map(({ from }) => from), ...rows.flatMap(({ to }) => Object.keys(to)), NONE]),
  ]
  const ordered = [...columns.filter((id) => id !== NONE), NONE]
  const share = (right: number, error: number) => `${(100 * right).toFixed(1)} ± ${(100 * error).toFixed(1)}`
  const table = formatTable(
    ['request for', 'n', ...ordered, 'right, %'],
    rows.map(({ from, n, to, right, error }) => [
      from,
      String(n),
      ...ordered.map((id) => String(to[id] ?? 0)),
      share(right, error),
    ]),
  )
  const skills = rows.filter(({ from }) => from !== NONE)
  const n = skills.reduce((sum, row) => sum + row.n, 0)
  const right = skills.reduce((sum, row) => sum + row.n * row.right, 0) / n
  const all =
    n > 0 ? `\nselected rightly: ${share(right, Math.sqrt((right * (1 - right)) / n))} % of ${n}` : ''
  return `${table}\n${all}\n± is the standard error`
}
