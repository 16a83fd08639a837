import { BLOCK_WEIGHTS } from './limits.ts'

/**
 * How a tensor is cut into blocks. A tensor of any rank is seen as a matrix of `rows = shape[0]` by
 * `cols = product of the rest` (a vector is one row), in row-major checkpoint order. Blocks are tiles of
 * `tileRows × tileCols ≤ 4096` weights, numbered row-major; tiles at the right and bottom edge are clipped.
 *
 * Matrices use 64 × 64, so that a block can be written coalesced in either memory layout; where one side is
 * shorter than 64 (vectors, LoRA factors) the tile spans it and is longer the other way.
 */
export interface Tiling {
  rows: number
  cols: number
  tileRows: number
  tileCols: number
  /** Tiles in one row of tiles. */
  across: number
  /** All tiles. */
  blocks: number
}

const SIDE = 64

export function tilingOf(shape: readonly number[]): Tiling {
  const weights = weightsOf(shape)
  const rows = shape.length > 1 ? shape[0] : 1
  const cols = weights / rows
  let tileRows = SIDE
  let tileCols = SIDE
  if (rows < SIDE || cols < SIDE) {
    if (cols <= rows) {
      tileCols = cols
      tileRows = Math.min(rows, Math.floor(BLOCK_WEIGHTS / cols))
    } else {
      tileRows = rows
      tileCols = Math.min(cols, Math.floor(BLOCK_WEIGHTS / rows))
    }
  }
  const across = Math.ceil(cols / tileCols)
  return { rows, cols, tileRows, tileCols, across, blocks: across * Math.ceil(rows / tileRows) }
}

/** Elements of a tensor; a scalar (rank 0) has one. */
export function weightsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** Row, column, height and width of one block. */
export interface Tile {
  row: number
  col: number
  height: number
  width: number
}

export function tileAt(tiling: Tiling, block: number): Tile {
  const row = Math.floor(block / tiling.across) * tiling.tileRows
  const col = (block % tiling.across) * tiling.tileCols
  return {
    row,
    col,
    height: Math.min(tiling.tileRows, tiling.rows - row),
    width: Math.min(tiling.tileCols, tiling.cols - col),
  }
}
