import type { DemoBench } from './demo.ts'
import type { LabelBench } from './labelled.ts'
import type { AssertionWidth } from './models.ts'
import type { Figures, Store } from './store.ts'

/** One line of a table: what is measured, under a name that its figures are kept by. */
export interface Row {
  key: string
  /** Whether everything that it needs is in the repository, and it takes seconds: `--quick` measures it. */
  isQuick?: boolean
  /** Folder that it needs where it is not quick: the demo's fine-tunings by default, or what make.sh trained. */
  needs?: Source
  /** @param kept - rows measured before it */
  measure(kept: Store): Promise<Figures>
}

/** A folder that is not in the repository. */
export type Source = 'demo-model' | 'trained'

/** What rows are measured on; opened when the first row asks for it. */
export interface Benches {
  demo(): Promise<DemoBench>
  /** The encoder with classes, at one of its widths, its full fine-tuning as what variants are compared with. */
  assertion(split: 'valid' | 'test', width?: AssertionWidth): Promise<LabelBench>
  /** The encoder-decoder on one task. */
  clinic(task: string): Promise<LabelBench>
  /** A folder or file of what make.sh trained. */
  trained(path: string): string
}

/** A table of the document: its rows, and what is said of them. */
export interface Table {
  id: string
  /** @param other - the rows of another table */
  rows(benches: Benches, other: (id: string) => Store): Row[]
  page(kept: Store, other: (id: string) => Store): Page
}

/** Part of the document. */
export interface Page {
  title: string
  /** Markdown. */
  text: string
  /** Charts by file name. */
  charts: Record<string, string>
}
