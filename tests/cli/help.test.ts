/**
 * Every example of every help runs, in a folder that has what it names, with a hub that has what it names there.
 *
 * @module
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addForHelp, isSlow, makeWorkplace } from '../docs/workplace.ts'
import { LONG } from '../tier.ts'
import { runLine } from './built_cli.ts'
import { type HubServer, startHub } from './hub_server.ts'
import { tritswap, tritswapLine } from './in_process.ts'

let place: string
let hub: HubServer
let helps: Map<string, string>

beforeAll(async () => {
  place = await makeWorkplace()
  addForHelp(place)
  hub = await startHub({
    'someone/sql-lora': { files: filesBelow('my-lora') },
    'someone/tiny-base': { files: filesBelow('base') },
    'someone/experts': { files: { 'poet.trit': readFileSync(join(place, 'poet.trit')) } },
    'someone/onnx-model': { files: filesBelow('onnx-model') },
  })
  const { out } = await tritswap('--help')
  const names = [...out.split('Commands:')[1].matchAll(/^ {2}(\w+) {2}/gm)].map(([, name]) => name)
  helps = new Map()
  for (const name of names) helps.set(name, (await tritswap(name, '--help')).out)
})

afterAll(() => hub.close())

function filesBelow(folder: string): Record<string, Uint8Array> {
  const paths = readdirSync(join(place, folder), { recursive: true }) as string[]
  const files = paths.filter((path) => statSync(join(place, folder, path)).isFile())
  return Object.fromEntries(files.map((path) => [path, readFileSync(join(place, folder, path))]))
}

/** In the quick tier cli.test.ts runs the built program. */
async function run(line: string) {
  const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: join(place, 'hf'), HF_TOKEN: '', TRITSWAP_FORCE: '1' }
  return (LONG ? undefined : await tritswapLine(line, place, env)) ?? runLine(line, { cwd: place, env })
}

/** In the order in which one makes what the next one takes. */
const COMMANDS =
  'compress registry route inspect verify prepare sweep eval decode merge compose compare'.split(' ')

test('there is one for each command', () => {
  expect([...helps.keys()].sort()).toEqual([...COMMANDS, 'check', 'assets'].sort())
})

describe('examples of the help', () => {
  test.each(COMMANDS)(
    '%s',
    async (name) => {
      const examples = [...helps.get(name)!.matchAll(/^ {2}\$ (.+)$/gm)].map(([, line]) => line)
      expect(examples.length).toBeGreaterThan(0)
      for (const example of examples) {
        if (isSlow(example) && !LONG) continue
        // Of lora.trit only the factors are needed: what peft loads is small experts of low rank.
        if (example.includes('lora.trit') && name !== 'compress')
          await run('tritswap compress --adapter my-lora --out lora.trit')
        const { code, out, err } = await run(example)
        expect({ example, code, err: code === 0 ? '' : err }).toEqual({ example, code: 0, err: '' })
        const [, written] = /--(?:out|peft|json) (\S+)/.exec(example) ?? []
        if (written !== undefined) expect(statSync(join(place, written)).size, example).toBeGreaterThan(0)
        else expect(out, example).not.toBe('')
      }
    },
    300_000,
  )

  test('check', async () => {
    const whole = "--base base --finetuned poet --dense '*' --dense-dtype f32 --out whole.trit"
    expect(await run(`tritswap compress ${whole}`)).toMatchObject({ code: 0 })
    for (const [, example] of helps.get('check')!.matchAll(/^ {2}\$ (.+)$/gm))
      expect(await run(example), example).toMatchObject({ code: 0 })
  })
})

test('a LoRA of the hub becomes a hosted expert in two commands', async () => {
  const made = await run(
    'tritswap compress --adapter hf:someone/sql-lora --base hf:someone/tiny-base --out hosted/',
  )
  expect(made).toMatchObject({ code: 0, err: '' })
  expect(await run('tritswap registry build hosted')).toMatchObject({ code: 0, err: '' })
  const { experts, base } = JSON.parse(readFileSync(join(place, 'hosted/experts.json'), 'utf8'))
  expect(experts).toMatchObject([{ id: 'sql-lora', url: 'sql-lora.trit', method: 'lora' }])
  expect(base.fingerprint).toMatch(/./)
  const { out } = await run('tritswap inspect hosted/sql-lora.trit')
  expect(out).toContain('hf:someone/sql-lora@')
})
