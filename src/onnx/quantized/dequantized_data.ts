import { nbitsReader } from '../../format/codecs/nbits_decode.ts'
import { floatsToHalves } from '../../format/float16.ts'
import { ELEMENT_BYTES } from '../../format/index.ts'
import type { InitializerData, QuantizedMatrix } from '../proto/initializer_data.ts'
import type { RawInitializer } from '../proto/tensor_bytes.ts'

type Reader = ReturnType<typeof nbitsReader>

/** Floats of quantized matrices, computed as they are read. */
export class Dequantizer {
  /** The last matrix: samples are taken one by one, and its bytes are read once for all of them. */
  #last: { matrix: QuantizedMatrix; reader: Promise<Reader> } | undefined

  dataOf(matrix: QuantizedMatrix): InitializerData {
    const { rows, cols, layout, components } = matrix
    const dtype = matrix.dtype === 'f32' ? 'float32' : 'float16'
    const size = ELEMENT_BYTES[dtype]
    return {
      dtype,
      dims: layout === 'transposed' ? [cols, rows] : [rows, cols],
      length: rows * cols,
      offset: 0,
      quantized: true,
      matrix,
      source: {
        name: components.weights.tensor.name,
        size: async () => rows * cols * size,
        read: async (offset, length) => {
          const weight = await this.#read(matrix)
          const first = offset / size
          const values = Float32Array.from({ length: length / size }, (_, i) => {
            const at = first + i
            return layout === 'transposed'
              ? weight(at % rows, Math.floor(at / rows))
              : weight(Math.floor(at / cols), at % cols)
          })
          return new Uint8Array((dtype === 'float32' ? values : floatsToHalves(values)).buffer)
        },
      },
    }
  }

  #read(matrix: QuantizedMatrix): Promise<Reader> {
    if (this.#last?.matrix !== matrix) this.#last = { matrix, reader: readerOf(matrix) }
    return this.#last.reader
  }
}

async function readerOf(matrix: QuantizedMatrix): Promise<Reader> {
  const { weights, scales, zeroPoints } = matrix.components
  const read = ({ source, offset, bytes }: RawInitializer) => source.read(offset, bytes)
  return nbitsReader(matrix, matrix.cols, {
    weights: await read(weights),
    scales: await read(scales),
    zeroPoints: zeroPoints && (await read(zeroPoints)),
  })
}
