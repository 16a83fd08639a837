/** What the Node side of the compatibility run and its page say to each other: paths are URLs of the same server. */
export interface Job {
  /** The model folder. */
  folder: string
  /** Folder of the graphs in it. */
  graph: string
  dtype: string
  /** `architectures[0]` of config.json. */
  architecture: string
  /** The graph keeps its weights in a file beside it. */
  externalData: boolean
  /** What `tritswap prepare` made of it. */
  prepared: string
  /** The file of inputs and of what torch makes of them. */
  expected: string
  /** First parts of the names of outputs in it; all others there are inputs. */
  outputs: readonly string[]
  experts: readonly JobExpert[]
}

export interface JobExpert {
  name: string
  /**
   * What a merge cannot reach, because an operator of the graph multiplies with integers there; the base then has to
   * refuse the expert.
   */
  integers: readonly string[]
  /**
   * Modules that an adapter has whole (peft's `modules_to_save`) and that are quantized by blocks in the graph: torch's
   * reference has them in f32.
   */
  unquantized: readonly string[]
  /**
   * What a base that was prepared with its checkpoint has under no name: no use is made of it in this graph, or the
   * exporter folded it into other weights, and then the base has to refuse the expert.
   */
  absent: readonly string[]
  /** Everything that it changes is a float in this graph, whatever the name of the graph says. */
  onFloats: boolean
  /** How it can be bound to this graph without a merge; undefined if it cannot. */
  beside?: 'side' | 'input'
  /** Uncompressed and compressed, with the name of what torch says. */
  files: readonly { url: string; expected: string }[]
}

/** Largest difference in units of the reference's range, and what is wrong beyond differences. */
export interface Outcome {
  maxDiff?: number
  /** Why it cannot run at all. */
  skipped?: string
  error?: string
  /** What to know of it besides. */
  note?: string
}

export interface JobResult {
  base: Outcome
  /** Merged. */
  experts: Record<string, Outcome>
  /** Beside the weights. */
  beside: Record<string, Outcome>
}
