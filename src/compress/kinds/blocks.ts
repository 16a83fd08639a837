/**
 * Methods whose change repeats a block: MiSS (which was Bone) and C3A.
 *
 * @module
 */
import { type Matrix, matrix, product } from '../matrices.ts'
import { type AdapterKind, valuesOf } from './kind.ts'

/** MiSS: a row of ranks for all inputs that leave the same rest. `bat` changes the weight by what it is. */
export const miss: AdapterKind = {
  label: 'MiSS',
  parts: ['miss_block', 'bone_block'],
  fields: ['r', 'miss_dropout', 'mini_r', 'init_weights'],
  change(module) {
    const { rows, cols } = module
    const name = module.has('miss_block') ? 'miss_block' : 'bone_block'
    if (module.config.init_weights === 'bat') {
      const size = module.part(name).shape.at(-1)!
      const tensor = module.shaped(name, rows / size, size, size)
      const values = async () => {
        const [blocks, weight] = [await valuesOf(tensor), await module.weight()]
        const out = matrix(rows, cols)
        // Blocks of W are multiplied with that of their rows, which is added as well.
        for (let band = 0; band < rows / size; band++) {
          const block: Matrix = {
            rows: size,
            cols: size,
            values: blocks.values.subarray(band * size * size, (band + 1) * size * size),
          }
          for (let from = 0; from < cols; from += size) {
            const own = matrix(size, size)
            for (let r = 0; r < size; r++) {
              const at = (band * size + r) * cols + from
              own.values.set(weight.values.subarray(at, at + size), r * size)
            }
            const turned = product(own, block)
            for (let r = 0; r < size; r++)
              for (let c = 0; c < size; c++)
                out.values[(band * size + r) * cols + from + c] =
                  turned.values[r * size + c] + block.values[r * size + c]
          }
        }
        return out
      }
      return { weight: { kind: 'delta', values } }
    }
    const isMini = module.config.init_weights === 'mini'
    const width = isMini ? module.number('mini_r') : rows
    const tensor = module.shaped(name, -1, width)
    const rank = tensor.shape[0]
    const factors = async () => {
      const { values } = await valuesOf(tensor)
      const left = matrix(rows, rank)
      for (let r = 0; r < rows; r++)
        for (let k = 0; k < rank; k++) left.values[r * rank + k] = values[k * width + (r % width)]
      const right = matrix(rank, cols)
      for (let c = 0; c < cols; c++) right.values[(c % rank) * cols + c] = 1
      return { left, right }
    }
    return { weight: { kind: 'product', rank, factors } }
  },
}

/** C3A: blocks in which every row is the one before it, moved on by one. */
export const c3a: AdapterKind = {
  label: 'C3A',
  parts: ['c3a_kernel'],
  fields: ['block_size', 'block_size_pattern', 'init_weights'],
  size(module) {
    const [down, across, size] = module.shaped('c3a_kernel', -1, -1, -1).shape
    return { rows: down * size, cols: across * size }
  },
  change(module) {
    const { rows, cols } = module
    const size = module.part('c3a_kernel').shape.at(-1)!
    const tensor = module.shaped('c3a_kernel', rows / size, cols / size, size)
    const values = async () => {
      const kernels = await valuesOf(tensor)
      const out = matrix(rows, cols)
      for (let r = 0; r < rows; r++)
        for (let c = 0; c < cols; c++) {
          const kernel = Math.floor(r / size) * cols + Math.floor(c / size) * size
          out.values[r * cols + c] = kernels.values[kernel + ((c - r + rows * size) % size)] / cols
        }
      return out
    }
    return { weight: { kind: 'delta', values } }
  },
}
