import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BLOCK_WEIGHTS, tileAt, tilingOf, weightsOf } from '../../src/format/index.ts'

const size = fc.integer({ min: 1, max: 400 })

describe('tiling', () => {
  test('covers every weight once, with blocks that a code can address', () => {
    const shapes = fc.oneof(
      fc.tuple(fc.integer({ min: 1, max: 50_000 })),
      fc.tuple(size, size),
      fc.tuple(fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 1, max: 4 })),
      fc.tuple(size, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 5 })),
    )
    fc.assert(
      fc.property(shapes, (shape) => {
        const tiling = tilingOf(shape)
        const seen = new Uint8Array(weightsOf(shape))
        for (let block = 0; block < tiling.blocks; block++) {
          const { row, col, height, width } = tileAt(tiling, block)
          if (height < 1 || width < 1 || height * width > BLOCK_WEIGHTS) return false
          for (let r = row; r < row + height; r++)
            for (let c = col; c < col + width; c++) seen[r * tiling.cols + c]++
        }
        return seen.every((count) => count === 1)
      }),
      { numRuns: 200 },
    )
  })

  test.each([
    { shape: [], tileRows: 1, tileCols: 1, blocks: 1 },
    { shape: [4096], tileRows: 1, tileCols: 4096, blocks: 1 },
    { shape: [4097], tileRows: 1, tileCols: 4096, blocks: 2 },
    { shape: [64, 64], tileRows: 64, tileCols: 64, blocks: 1 },
    { shape: [8, 1024], tileRows: 8, tileCols: 512, blocks: 2 },
    { shape: [1024, 8], tileRows: 512, tileCols: 8, blocks: 2 },
    { shape: [63, 66], tileRows: 63, tileCols: 65, blocks: 2 },
    { shape: [128, 3, 3, 3], tileRows: 128, tileCols: 27, blocks: 1 },
    { shape: [65, 65], tileRows: 64, tileCols: 64, blocks: 4 },
  ])('$shape is cut into $blocks blocks of $tileRows × $tileCols', ({ shape, ...expected }) => {
    expect(tilingOf(shape)).toMatchObject(expected)
  })
})
