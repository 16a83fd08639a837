/**
 * Requests of skills that the routing was not made with: written by templates, whose `test` has phrasings and values that
 * `train` lacks. Nothing is tuned to them.
 *
 * @module
 */
import { randomFrom } from '../../tests/format/samples.ts'

/** Requests of one skill. */
export interface Requests {
  train: string[]
  valid: string[]
  test: string[]
}

/** A template: `{name}` stands for one of the values of that name, `{n}` for a number. */
interface Skill {
  /** Phrasings that `train` and `valid` have; `test` has half of its requests from `unseen`. */
  phrasings: string[]
  unseen: string[]
  values: Record<string, string[]>
}

/** The share of a list of values that only `test` draws from. */
const HELD = 0.25

const list = (text: string, separator = ' ') => text.trim().split(separator)

const MONTHS = list('January February March April May June July August September October November December')
const NAMES = list('Ana Bo Chen Dara Emil Fay Gus Hana Ivo Jun Kai Lia Milo Nora Otto Pia Quin Rui Sana Tove')

const SKILLS: Record<string, Skill> = {
  units: {
    phrasings: [
      '{n} {unit} in {unit}',
      'convert {n} {unit} to {unit}',
      'how many {unit} are {n} {unit}',
      '{n} {unit} to {unit} please',
      'express {n} {unit} in {unit}',
    ],
    unseen: ['what is {n} {unit} as {unit}', 'I have {n} {unit}, give me {unit}'],
    values: {
      unit: list(
        'km miles metres feet inches cm yards kg pounds ounces grams stone litres gallons pints cups ml hectares acres knots',
      ),
    },
  },
  dates: {
    phrasings: [
      '{month} {d}, {year}',
      'the {d}th of {month} {year} as ISO',
      'write {d} {month} {year} as an ISO date',
      'ISO date of {weekday}, {month} {d} {year}',
      'normalize: {d}/{d}/{year}',
    ],
    unseen: ['{weekday} the {d}th of {month}, {year}', 'which ISO date is {month} {d} {year}'],
    values: { month: MONTHS, weekday: list('Monday Tuesday Wednesday Thursday Friday Saturday Sunday') },
  },
  regex: {
    phrasings: [
      'a regex for {thing}',
      'regular expression that matches {thing}',
      'pattern: {thing}',
      'match {thing} with a regex',
      'regex matching {thing} at the start of a line',
    ],
    unseen: ['which regular expression finds {thing}', 'I need a regex that accepts only {thing}'],
    values: {
      thing: list(
        'email addresses,phone numbers,hex colours,IPv4 addresses,dates like 2024-01-31,words in capitals,quoted strings,URLs,HTML tags,postcodes,integers with a sign,decimal numbers,file names that end in .txt,words of five letters,double spaces,times like 14:05,hashtags,user names with an @,version numbers,lines that begin with #',
        ',',
      ),
    },
  },
  unittests: {
    phrasings: [
      'def {fn}({arg}):\n    return {arg} {op} {k}\nwrite a pytest',
      'def {fn}({arg}, {arg2}):\n    return {arg} {op} {arg2}\ntest it',
      'a unit test for\ndef {fn}({arg}):\n    return {arg} {op} {k}',
    ],
    unseen: ['def {fn}({arg}):\n    return {arg} {op} {k}\nassert what it should do'],
    values: {
      fn: list(
        'add scale shift total area half double diff ratio clamp bump offset mean gain drop price tax speed depth width',
      ),
      arg: list('x a value n price left size items w t'),
      arg2: list('y b other m rate right count step h s'),
      op: list('+ - * / // %'),
    },
  },
  french: {
    phrasings: [
      '{phrase}',
      'French: {phrase}',
      'in French: {phrase}',
      'translate into French: {phrase}',
      'say this in French: {phrase}',
    ],
    unseen: ['how would a French speaker say: {phrase}', 'put this into French: {phrase}'],
    values: {
      phrase: list(
        'The bakery opens at seven.|My brother lives in a small village.|We took the wrong bus.|She never drinks coffee in the evening.|The children are playing in the yard.|I lost my umbrella on the train.|Could you close the window?|They have lived here for ten years.|The soup is too hot.|He forgot to call his mother.|Our neighbours bought a new car.|The museum is closed on Mondays.|I would like to see the doctor.|It has been snowing since noon.|The book is on the table.|You should sleep more.|Her sister works at the hospital.|We are looking for the exit.|The river runs behind the house.|I do not understand the question.',
        '|',
      ),
    },
  },
  extract: {
    phrasings: [
      '{name} {name}, {age}, {job} from {city}',
      'Extract as JSON: {name} {name} is a {age}-year-old {job} in {city}.',
      'JSON of: {job} {name} {name} ({age}), {city}',
      '{name} {name} works as a {job} in {city} and is {age}.',
    ],
    unseen: [
      'Fields of: from {city}, aged {age}, {name} {name} is a {job}.',
      'to JSON: a {job} called {name} {name}, {age}, living in {city}',
    ],
    values: {
      name: NAMES,
      job: list(
        'baker nurse pilot lawyer farmer plumber singer tailor welder teacher painter editor miner clerk chef driver',
      ),
      city: list(
        'Turin Porto Ghent Lyon Malmo Graz Basel Bergen Cork Leeds Gdansk Split Brno Tartu Faro Bath',
      ),
    },
  },
  commits: {
    phrasings: [
      '--- a/{file}\n+++ b/{file}\n-{code}\n+{code}',
      'commit message for\n-{code}\n+{code}',
      'diff of {file}\n-{code}\n+{code}',
    ],
    unseen: ['summarize this change to {file}\n-{code}\n+{code}', '@@ {file} @@\n-{code}\n+{code}'],
    values: {
      file: list(
        'main.c app.py index.js server.go lib.rs utils.ts Makefile style.css query.sql README.md test.py io.c cache.go auth.js parse.rs view.ts',
      ),
      code: list(
        'return 0;|retries = 3|if (user == null) return|timeout: 500|let total = 0|const port = 8080|print(result)|log.debug(msg)|items.sort()|assert ok|x += 1|await save()|close(fd)|i < n|color: red|free(buf)',
        '|',
      ),
    },
  },
  shell: {
    phrasings: [
      'shell: {act} {files}',
      'bash one-liner to {act} {files}',
      'command line to {act} {files}',
      '{act} {files} in the terminal',
    ],
    unseen: ['how do I {act} {files} from the shell', 'one command that will {act} {files}'],
    values: {
      act: list(
        'count,delete,list,move to /tmp,compress,sort by size,make executable,find the newest of,rename to lower case,copy to a server,print the first lines of,show the total size of',
        ',',
      ),
      files: list(
        'all .log files,files over 100 MB,empty folders,hidden files,files changed today,*.png in this folder,symbolic links,duplicate lines in a.txt,all Python files,files owned by root,.bak files,the ten largest files',
        ',',
      ),
    },
  },
  sums: {
    phrasings: [
      '{name} has {k} {item}s and buys {k} more. How many are there now?',
      '{name} had {n} {item}s and gave {k} of them away. How many are left?',
      'A box holds {k} {item}s. How many are in {k} boxes?',
      '{n} {item}s are shared by {k} children. How many does each get?',
    ],
    unseen: [
      'There were {n} {item}s on the table. {name} took {k}. How many remain?',
      'Each {item} costs {k} coins. What do {k} of them cost {name}?',
    ],
    values: {
      name: NAMES,
      item: list(
        'apple pear marble stamp coin book ticket pencil egg card sticker button ball shell ribbon cup',
      ),
    },
  },
  titles: {
    phrasings: [
      '{who} {did} {what} {where}',
      'headline: {who} {did} {what} {where}',
      'Write a headline. {who} {did} {what} {where}.',
    ],
    unseen: ['News: {what} {did} by {who} {where}', 'title for this story: {who} {did} {what} {where}'],
    values: {
      who: list(
        'The city council|A local farmer|The central bank|Two students|The national team|Police officers|A startup|Researchers|The mayor|Firefighters|The union|A bus driver',
        '|',
      ),
      did: list(
        'approved|found|closed|announced|rescued|sold|rejected|opened|discovered|banned|repaired|won',
        '|',
      ),
      what: list(
        'a new bridge|an old painting|the harbour|a tax on sugar|three dogs|a record budget|the night trains|a rare beetle|the trophy|a solar park|the main square|plastic bags',
        '|',
      ),
      where: list(
        'in the north of the country|on Tuesday|after a long debate|near the river|last week|despite protests|in record time|for the first time|at midnight|by a narrow margin',
        '|',
      ),
    },
  },
}

/** @param counts - requests of each set */
export function unseenSkills(counts = { train: 256, valid: 100, test: 150 }): Map<string, Requests> {
  return new Map(
    Object.entries(SKILLS).map(([id, skill], at) => {
      const random = randomFrom(1000 + at)
      const make = (count: number, isTest: boolean, used: Set<string>) => {
        const found = new Set<string>()
        for (let tries = 0; found.size < count && tries < 50 * count; tries++) {
          const text = requestOf(skill, isTest, random)
          if (!used.has(text)) found.add(text)
        }
        for (const text of found) used.add(text)
        return [...found]
      }
      const used = new Set<string>()
      const train = make(counts.train, false, used)
      const valid = make(counts.valid, false, used)
      return [id, { train, valid, test: make(counts.test, true, used) }]
    }),
  )
}

function requestOf({ phrasings, unseen, values }: Skill, isTest: boolean, random: () => number): string {
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)]!
  const number = (limit: number) => String(2 + Math.floor(random() * limit))
  const phrasing = pick(isTest && random() < 0.5 ? unseen : phrasings)
  return phrasing.replace(/\{(\w+)\}/g, (_, name: string) => {
    if (name === 'n') return number(500)
    if (name === 'k') return number(20)
    if (name === 'd') return number(26)
    if (name === 'age') return String(18 + Number(number(60)))
    if (name === 'year') return String(1950 + Number(number(70)))
    const all = values[name]!
    const held = Math.ceil(all.length * (1 - HELD))
    return pick(isTest ? all : all.slice(0, held))
  })
}
