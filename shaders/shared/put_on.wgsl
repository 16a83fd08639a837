/// Adds a ternary stream to the weights of one block and journals what it displaces.
fn put_on(stream: u32, block_id: u32, tile: Tile) {
  let code = code_of(stream);
  let value = params.streams[stream].value;
  let kept = kept_before(stream, block_id);
  let capacity = kept_before(stream, block_id + 1u) - kept;
  let start = journal_start(kept, block_id);
  var cursor = open(stream, block_id);
  var pending = 0u;
  var rank = 0u;
  while (more(cursor) & (rank < capacity)) {
    // Two entries a turn, their loads side by side: the weights are far apart, and waiting for one at a time would
    // take most of the time. A step past the end does no harm.
    let is_first = step(&cursor, code) & (cursor.position < tile.area);
    let first_element = element_at(tile, cursor.position);
    let first_value = signed_value(value, cursor.negative);
    let is_second = more(cursor) & step(&cursor, code) & (cursor.position < tile.area);
    let second_element = element_at(tile, cursor.position);
    let second_value = signed_value(value, cursor.negative);
    let first_raw = load(first_element);
    let second_raw = load(second_element);
    if (is_first) {
      journal_write(start, rank, first_raw, &pending);
      rank += 1u;
      store(first_element, first_raw, raw_of(value_of(first_raw) + first_value));
    }
    if (is_second & (rank < capacity)) {
      journal_write(start, rank, second_raw, &pending);
      rank += 1u;
      store(second_element, second_raw, raw_of(value_of(second_raw) + second_value));
    }
  }
}
