/**
 * `npm run bench:cache`: what it costs an expert to go on from what the base read (`kv: 'keep'`) instead of reading all itself
 * (`recompute`), in answers and in time; and the time to the first token of an activated LoRA over a kept cache. On the CPU, in
 * Node, of second turns of chats whose first turn the base read.
 */
import { parseArgs } from 'node:util'
import { parseChats } from '../../src/cli/chats.ts'
import { Decoder } from '../../src/cli/decoder.ts'
import { type Evaluation, withEvaluation } from '../../src/cli/evaluation.ts'
import { openFile, readText } from '../../src/cli/file_source.ts'
import { closenessTo, type Estimate, exactDifference, exactMatch } from '../../src/cli/scores.ts'
import { expertVariant } from '../../src/cli/variants.ts'
import { WeightsFile } from '../../src/cli/weights_file.ts'
import { defaultThreads } from '../../src/cli/worker_pool.ts'
import { chatExample, commonPrefix, type Example } from '../../src/engine/answered_example.ts'
import type { ChatMessage } from '../../src/engine/protocol.ts'
import { readHead } from '../../src/format/index.ts'

const USAGE = `npm run bench:cache -- --expert <file.trit> --chats <file.jsonl>
  --base <folder>    written by tritswap prepare (public/models/smollm2)
  --n <n>            how many chats (40)
  --from <n>         the first of them (0)`

const { values } = parseArgs({
  options: {
    base: { type: 'string', default: 'public/models/smollm2' },
    expert: { type: 'string' },
    chats: { type: 'string' },
    n: { type: 'string', default: '40' },
    from: { type: 'string', default: '0' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
const { base, expert, chats } = values
if (values.help || expert === undefined || chats === undefined) console.log(USAGE)
else await measure(base, expert, chats)

async function measure(folder: string, file: string, path: string): Promise<void> {
  const source = await openFile(file)
  const { system } = (await readHead(source)).table
  await source.close()
  const from = Number(values.from)
  const lines = parseChats(await readText(path), path).slice(from, from + Number(values.n) + 1)
  const first: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }]
  await withEvaluation(folder, defaultThreads(), async (evaluation) => {
    const { template } = evaluation.tokenizer
    const examples = lines.slice(1).map((chat, i) => {
      const before = [...first, ...lines[i].filter(({ role }) => role !== 'system')]
      const example = chatExample([...before, ...chat.filter(({ role }) => role !== 'system')], template)
      return { ...example, turn: commonPrefix([example.ids, template.encodeAnswered(before)]).length }
    })
    const variant = await expertVariant(evaluation.base, file)
    const logits = await evaluation.logitsFile()
    const recomputed = await evaluation.score(examples, variant, { keep: logits })
    const kept = await evaluation.score(examples, variant, {
      beside: [logits],
      readsFrom: (i) => examples[i].turn,
    })
    await logits.close()
    await variant.close()
    const { agreement, kl } = closenessTo(kept, 0)
    const percent = ({ value, se }: Estimate) => `${(100 * value).toFixed(1)} ± ${(100 * se).toFixed(1)} %`
    console.log(`${file} on ${examples.length} second turns of ${path}, first turns read by the base`)
    console.log(`  exact, recompute    ${percent(exactMatch(recomputed))}`)
    console.log(`  exact, keep         ${percent(exactMatch(kept))}`)
    console.log(`  keep − recompute    ${percent(exactDifference(kept, recomputed))}`)
    console.log(`  same first choice   ${percent(agreement)} of the answers' tokens`)
    console.log(`  KL                  ${kl.value.toFixed(4)} ± ${kl.se.toFixed(4)} bits a token`)
    console.log(await firstTokens(evaluation, examples))
  })
}

/** How long the first token takes where all is read, and where a cache holds what comes before the last turn. */
async function firstTokens(
  evaluation: Evaluation,
  turns: readonly (Example & { turn: number })[],
): Promise<string> {
  const { graph, fit, config } = evaluation.base
  const weights = await WeightsFile.create(evaluation.scratch('timed'), fit.weights, graph.file)
  await weights.bring()
  // Weights that are not packed would be packed in every pass, which takes longer than the pass.
  const decoder = await Decoder.create(graph, weights, { config, threads: defaultThreads(), prepack: true })
  const time = async ({ ids, first }: Example) => {
    const start = performance.now()
    await decoder.logits({ ids: ids.slice(0, first + 1), first })
    return performance.now() - start
  }
  const all: number[] = []
  for (const turn of turns) all.push(await time(turn))
  const behind: number[] = []
  for (const turn of turns) {
    await decoder.readPrefix(turn.ids.slice(0, turn.turn))
    behind.push(await time(turn))
  }
  await decoder.release()
  await weights.close()
  const middle = (list: readonly number[]) => [...list].sort((a, b) => a - b)[list.length >> 1]
  const tokens = middle(turns.map(({ first }) => first))
  const left = middle(turns.map(({ first, turn }) => first - turn))
  const ratios = all.map((ms, i) => ms / behind[i])
  return `  first token, medians  ${middle(all).toFixed(0)} ms where all ${tokens} tokens are read, ${middle(behind).toFixed(0)} ms for the last ${left} behind a kept cache: ${middle(ratios).toFixed(1)} × sooner`
}
