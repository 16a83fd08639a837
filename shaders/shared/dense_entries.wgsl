// Dense streams as entries of a block: one for each weight, in the order of positions.
#import job
#import target

/// Entries of a dense stream before a block: those of the bands of tiles above, then of the tiles to the left.
fn dense_before(block_id: u32) -> u32 {
  let band = block_id / params.across;
  let row = min(band * params.tile_rows, params.rows);
  let height = min(params.tile_rows, params.rows - row);
  let col = min((block_id - band * params.across) * params.tile_cols, params.cols);
  return row * params.cols + height * col;
}

/// First journal word of a dense stream in a part, whose first position is `first`.
fn dense_start(stream: u32, part: u32, first: u32) -> u32 {
  return journal_of(stream) + journal_start(dense_before(part / LANES) + first, part);
}
