// Moves weights by steps: to the value of a float type that is so many values up or down, one invocation a block. First the weights
// that one stream of steps displaced come back, then those of the other are journaled and move.
#import job
#import target
#import displaced
#import journal

/// First journal word of a stream whose weights are kept elsewhere.
const NOT_JOURNALED = 0xffffffffu;

/// `Code.low` of a stream of steps: the type that they are counted in. `Code.m` is the words of an entry.
const UNIT_F32 = 0u;
const UNIT_F16 = 1u;
const UNIT_BF16 = 2u;

/// The pattern of a unit that is nearest to a binary32, ties to even.
fn pattern_of(bits: u32, unit: u32) -> u32 {
  if (unit == UNIT_F32) { return bits; }
  if (unit == UNIT_F16) { return half_from_f32(bits); }
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

/// Bits of the binary32 with the value of a pattern; exact.
fn bits_of_pattern(pattern: u32, unit: u32) -> u32 {
  if (unit == UNIT_F32) { return pattern; }
  return select(pattern << 16u, f32_from_half(pattern), unit == UNIT_F16);
}

/// The pattern so many steps up: patterns are numbered in the order of their values, -0 just below 0.
fn stepped(pattern: u32, step: u32, unit: u32) -> u32 {
  let sign = select(0x8000u, 0x80000000u, unit == UNIT_F32);
  let mask = sign | (sign - 1u);
  let ordinal = select(~pattern, pattern | sign, (pattern & sign) == 0u);
  let moved = ordinal + step;
  return select(moved ^ sign, ~moved, (moved & sign) == 0u) & mask;
}

/// A raw weight after a step, or after a share of it.
fn moved_raw(raw: u32, step: u32, unit: u32, share: f32) -> u32 {
  let bits = bits_of_pattern(stepped(pattern_of(f32_bits_of(raw), unit), step, unit), unit);
  if (share == 1.0) { return raw_from_f32(bits); }
  let value = value_of(raw);
  return raw_of(value + share * (bitcast<f32>(bits) - value));
}

/// Entries before a block: the index has two words for each, whatever the lanes of the other kernels.
fn steps_before(stream: u32, block_id: u32) -> u32 { return arena[index_of(stream) + 2u * block_id + 1u]; }

fn revert_steps(stream: u32, block_id: u32, tile: Tile) {
  let code = code_of(stream);
  let kept = steps_before(stream, block_id);
  let count = steps_before(stream, block_id + 1u) - kept;
  let start = journal_of(stream) + journal_start(kept, block_id);
  for (var rank = 0u; rank < count; rank++) {
    let position = arena[code.words + (kept + rank) * code.m] & 0xfffu;
    overwrite(element_at(tile, f32(position)), displaced_at(start, rank));
  }
}

fn apply_steps(stream: u32, block_id: u32, tile: Tile) {
  let code = code_of(stream);
  let share = value_in(stream);
  let kept = steps_before(stream, block_id);
  let count = steps_before(stream, block_id + 1u) - kept;
  let first = journal_of(stream);
  let start = first + journal_start(kept, block_id);
  var pending = 0u;
  for (var rank = 0u; rank < count; rank++) {
    let at = code.words + (kept + rank) * code.m;
    let word = arena[at];
    var step = word >> 16u;
    if (code.m == 2u) { step = arena[at + 1u]; }
    let element = element_at(tile, f32(word & 0xfffu));
    let raw = load(element);
    if (first != NOT_JOURNALED) { journal_write(start, rank, raw, &pending); }
    store(element, raw, moved_raw(raw, step, code.low, share));
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn steps(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let number = start_job(group, groups) * WORKGROUP_SIZE + lane;
  let block_id = params.first_block + number;
  if (block_id >= params.end_block) { return; }
  let tile = tile_of(block_id);
  if (params.reverted > 0u) { revert_steps(0u, block_id, tile); }
  if (params.applied > 0u) { apply_steps(params.reverted, block_id, tile); }
}
