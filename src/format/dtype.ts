/**
 * The types of elements under all the names that they go by: `F16` in a safetensors file, `f16` in a `.trit` table,
 * `float16` for onnxruntime and element type 10 in an ONNX graph, `fp16` as the precision of a transformers.js model.
 *
 * @module
 */

/** Floats as a `.trit` table names them. */
export type FloatDtype = 'f16' | 'f32'

export const FLOAT_DTYPES = ['f16', 'f32'] as const satisfies readonly FloatDtype[]

/** Elements of a graph input as onnxruntime names them. */
export type InputDtype = 'float32' | 'float16' | 'uint8'

/** Graph inputs whose elements are floats. */
export type FloatInputDtype = Exclude<InputDtype, 'uint8'>

export const INPUT_DTYPES = ['float32', 'float16', 'uint8'] as const satisfies readonly InputDtype[]

/** Bytes of an element of an input. */
export const ELEMENT_BYTES = { float32: 4, float16: 2, uint8: 1 } as const satisfies Record<
  InputDtype,
  number
>

/** Bytes of a float of a `.trit` file. */
export const FLOAT_BYTES = { f32: 4, f16: 2 } as const satisfies Record<FloatDtype, number>

/** A float of a `.trit` file in onnxruntime's spelling. */
export const INPUT_DTYPE_OF = { f32: 'float32', f16: 'float16' } as const satisfies Record<
  FloatDtype,
  FloatInputDtype
>

/** A float of a graph input in the spelling of a `.trit` file. */
export const FLOAT_DTYPE_OF = { float32: 'f32', float16: 'f16' } as const satisfies Record<
  FloatInputDtype,
  FloatDtype
>

/** A float of a `.trit` file in the spelling of safetensors. */
export const SAFETENSORS_DTYPE_OF = { f32: 'F32', f16: 'F16' } as const satisfies Record<FloatDtype, string>

/** Bytes of an element of every dtype that a safetensors header may name. */
export const SAFETENSORS_BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
}

/** Element types of ONNX graphs (`TensorProto.DataType`). */
export const ONNX_TYPE = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, float16: 10 } as const

/** Bytes of an element, by its ONNX type: those that occur in the weights of a graph. */
export const ONNX_BYTES: Readonly<Record<number, number>> = {
  [ONNX_TYPE.float32]: 4,
  [ONNX_TYPE.float16]: 2,
  [ONNX_TYPE.uint8]: 1,
  [ONNX_TYPE.int8]: 1,
  [ONNX_TYPE.int32]: 4,
  [ONNX_TYPE.int64]: 8,
}

/** The precisions of transformers.js with the suffix that each gives to the file name of a graph. */
export const DTYPE_SUFFIX = {
  fp32: '',
  fp16: '_fp16',
  q4: '_q4',
  q4f16: '_q4f16',
  q8: '_quantized',
  int8: '_int8',
  uint8: '_uint8',
  bnb4: '_bnb4',
} as const

export type ModelDtype = keyof typeof DTYPE_SUFFIX

export function isModelDtype(value: string): value is ModelDtype {
  return Object.hasOwn(DTYPE_SUFFIX, value)
}

export const WEIGHT_DTYPES = ['f32', 'f16', 'q8', 'q4', 'q2'] as const

/** How precisely a base holds its weights: as floats, or as integers of a number of bits. */
export type WeightDtype = (typeof WEIGHT_DTYPES)[number]
