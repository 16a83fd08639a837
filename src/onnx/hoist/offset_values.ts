import { floatsToHalves, halvesToFloats } from '../../format/float16.ts'
import { type InitializerData, readElements } from '../proto/initializer_data.ts'

/** Values of a float initializer with `by` added to each, as they are read. */
export function withOffset(data: InitializerData, by: number): InitializerData {
  const half = data.dtype === 'float16'
  const size = half ? 2 : 4
  return {
    ...data,
    offset: 0,
    source: {
      name: data.source.name,
      size: async () => data.length * size,
      async read(offset, length) {
        const stored = await readElements(data, offset / size, length / size)
        const values = (stored instanceof Uint16Array ? halvesToFloats(stored) : stored.slice()).map(
          (value) => value + by,
        )
        return new Uint8Array((half ? floatsToHalves(values) : values).buffer)
      },
    },
  }
}
