import type { TritMethod } from '../format/table.ts'

/**
 * Fraction of entries to keep unless one is given, for the command line, the page and its worker. A full fine-tuning
 * keeps its gain at 5 %; LoRA factors have less to spare and lose what they learned below about 20 %, (IA)³ vectors
 * below half.
 */
export const DEFAULT_DENSITY: Readonly<Record<TritMethod, number>> = { full: 0.05, lora: 0.2, ia3: 0.5 }
