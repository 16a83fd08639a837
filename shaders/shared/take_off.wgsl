/// Puts back what a ternary stream displaced in one block.
fn take_off(stream: u32, block_id: u32, tile: Tile) {
  let code = code_of(stream);
  let kept = kept_before(stream, block_id);
  let capacity = kept_before(stream, block_id + 1u) - kept;
  let start = journal_start(kept, block_id);
  var cursor = open(stream, block_id);
  var rank = 0u;
  while (more(cursor) & (rank < capacity)) {
    if (step(&cursor, code) & (cursor.position < tile.area)) {
      overwrite(element_at(tile, cursor.position), displaced_at(start, rank));
      rank += 1u;
    }
  }
}
