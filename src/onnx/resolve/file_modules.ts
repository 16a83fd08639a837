/**
 * The module that a graph file is an export of: the encoder of a pair is a model of its own, and its names lack the
 * module that holds it.
 *
 * @module
 */

/** `onnx/encoder_model_fp16.onnx` → `encoder`. */
function moduleOfFile(file: string): string {
  return file.split('/').at(-1)!.split(/[_.]/)[0]
}

export function isEncoder(file: string): boolean {
  return moduleOfFile(file) === 'encoder'
}

/** A name below the module of its file. */
export function belowModule(file: string, name: string): string {
  return `${moduleOfFile(file)}.${name}`
}

/** What the whole model calls a tensor that an encoder's graph calls `name`. */
export function inWholeModel(file: string, name: string): string {
  return isEncoder(file) && !name.split('.').includes('encoder') ? belowModule(file, name) : name
}
