import { join } from 'node:path'

/** Files that the repository does not carry, beside it. */
export const SHARED = join(import.meta.dirname, '../../../shared')
/** Small models in ONNX, with what torch gives for them. */
export const ZOO = join(SHARED, 'onnx-zoo')
