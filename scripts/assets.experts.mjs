/**
 * The experts of the demo and how each is made. `balanced`: the command line's own rule, with density and alpha chosen
 * on windows 24–45 of the held-out text, as the smallest of 5, 6, 8, 10 and 11.4 % that keeps 90.5 % of the gain there,
 * else 11.4 % (what fits in a 25th of the f16 delta). `distilled`: an author's own ternary weights, packed as they are.
 * Figures are reported on windows 0–23; what keeps less than 88 % there is measured but not bundled.
 *
 * @module
 */

/** Spelled out, so that a later default of the command line does not change the files. */
export const BALANCED = ['--score', 'balanced', '--threshold', 'tensor', '--scale', 'unbiased']

export const EXPERTS = [
  {
    id: 'austen',
    label: 'Austen',
    description: 'Drawing rooms, manners and long sentences: the novels of Jane Austen.',
    prompt: 'Mr. Knightley was in the drawing-room when Emma came in, and',
    density: 0.114,
    alpha: 1,
    method: 'balanced',
  },
  {
    id: 'holmes',
    label: 'Holmes',
    description: 'Clues and deductions: the cases of Sherlock Holmes, by Arthur Conan Doyle.',
    prompt: '"You see, Watson," said Holmes, as he looked at the letter, "',
    density: 0.05,
    method: 'distilled',
  },
  {
    id: 'fairy',
    label: 'Fairy tales',
    description: 'Kings, forests and talking animals: the tales of Andersen, Grimm and others.',
    prompt: 'Once upon a time there was a king who had three daughters, and',
    density: 0.1,
    alpha: 1,
    method: 'balanced',
  },
  {
    id: 'bard',
    label: 'Bard',
    description: 'Names in capitals and lines of verse: the plays of William Shakespeare.',
    prompt: 'KING HENRY:\nMy lord, what news?\n\n',
    density: 0.1,
    alpha: 1,
    method: 'balanced',
  },
  {
    id: 'scripture',
    label: 'Scripture',
    description: 'Numbered verses: the King James Bible.',
    prompt: '1:1 And it came to pass in those days, that the LORD said unto',
    density: 0.08,
    alpha: 1,
    method: 'balanced',
  },
  {
    id: 'python',
    label: 'Python',
    description: 'Functions and docstrings: the Python standard library.',
    prompt: 'def read_file(path):\n    """',
    density: 0.114,
    alpha: 1,
    method: 'balanced',
  },
  {
    id: 'css',
    label: 'Style sheets',
    description: 'Selectors and properties: style sheets and scripts of npm packages.',
    prompt: '.ui.button {\n  display: inline-block;\n',
    density: 0.05,
    alpha: 1,
    method: 'balanced',
  },
]

/** Other compressions of the same fine-tunings: bundled where they are good enough. */
export const VARIANTS = [
  { of: 'holmes', method: 'balanced', density: 0.114, alpha: 1 },
  ...EXPERTS.flatMap(({ id: of }) =>
    [0.02, 0.05].map((density) => ({ of, method: 'distilled', density })),
  ).filter(
    ({ of, density }) =>
      !EXPERTS.some(
        ({ id, method, ...main }) => id === of && method === 'distilled' && main.density === density,
      ),
  ),
]
