import { expect, test } from 'vitest'
import {
  ELEMENT_BYTES,
  FLOAT_BYTES,
  FLOAT_DTYPE_OF,
  FLOAT_DTYPES,
  INPUT_DTYPE_OF,
  INPUT_DTYPES,
  ONNX_BYTES,
  ONNX_TYPE,
  SAFETENSORS_BYTES,
  SAFETENSORS_DTYPE_OF,
} from '../../src/format/dtype.ts'
import { TensorProto_DataType } from '../../src/onnx/proto/onnx_pb.ts'

test('every spelling of a float has the same size, and leads back', () => {
  for (const dtype of FLOAT_DTYPES) {
    const bytes = FLOAT_BYTES[dtype]
    expect(ELEMENT_BYTES[INPUT_DTYPE_OF[dtype]]).toBe(bytes)
    expect(SAFETENSORS_BYTES[SAFETENSORS_DTYPE_OF[dtype]]).toBe(bytes)
    expect(FLOAT_DTYPE_OF[INPUT_DTYPE_OF[dtype]]).toBe(dtype)
  }
  for (const dtype of INPUT_DTYPES) expect(ONNX_BYTES[ONNX_TYPE[dtype]]).toBe(ELEMENT_BYTES[dtype])
})

test('element types are those of the ONNX schema', () => {
  expect(ONNX_TYPE).toEqual({
    float32: TensorProto_DataType.FLOAT,
    uint8: TensorProto_DataType.UINT8,
    int8: TensorProto_DataType.INT8,
    int32: TensorProto_DataType.INT32,
    int64: TensorProto_DataType.INT64,
    float16: TensorProto_DataType.FLOAT16,
  })
})
