import type { AdapterName } from './adapter_names.ts'
import type { BaseNames } from './base_names.ts'
import type { Checkpoint } from './checkpoint.ts'
import type { AdapterSettings } from './peft_config.ts'
import type { StoredTensor } from './safetensors.ts'

/** A tensor of an adapter with what its name says. */
export interface AdapterTensor extends AdapterName {
  stored: StoredTensor
}

/** What the meaning of a tensor depends on. */
export interface AdapterContext<S extends AdapterSettings = AdapterSettings> {
  /** Of the folder, for messages. */
  name: string
  settings: S
  tensors: readonly AdapterTensor[]
  byName: ReadonlyMap<string, AdapterTensor>
  base?: Checkpoint
  /** The base's tensors by the names that adapters give them. */
  baseNames?: BaseNames
  /** Names of tensors that are copies of others. */
  copies: string[]
  /** What the user is told about how the adapter was read. */
  notes: string[]
}
