import type { DemoBench } from './demo.ts'
import type { LabelBench } from './labelled.ts'
import type { AssertionWidth } from './models.ts'
import type { Figures, Store } from './store.ts'

/** One line of a table: what is measured, under a name that its figures are kept by. */
export interface Row {
  key: string
  /** Everything that it needs is in the repository, and `--quick` measures it; others need the demo's fine-tunings. */
  isQuick?: boolean
  /** @param kept - rows measured before it */
  measure(kept: Store): Promise<Figures>
}

/** What rows are measured on; opened when the first row asks for it. */
export interface Benches {
  demo(): Promise<DemoBench>
  /** The encoder with classes, at one of its widths, its full fine-tuning as what variants are compared with. */
  assertion(split: 'valid' | 'test', width?: AssertionWidth): Promise<LabelBench>
  /** The encoder-decoder on one task. */
  clinic(task: string): Promise<LabelBench>
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
