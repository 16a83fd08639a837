// A dispatch that works on one job.
#requires Stream, Code, MAX_STREAMS

struct Job {
  rows: u32,
  cols: u32,
  tile_rows: u32,
  tile_cols: u32,
  /// Tiles in one row of tiles.
  across: u32,
  first_block: u32,
  end_block: u32,
  /// Element (r, c) is at offset + r * row_stride + c * col_stride.
  offset: u32,
  row_stride: u32,
  col_stride: u32,
  /// How many streams are reverted, the first ones of `streams`, and how many after them are applied.
  reverted: u32,
  applied: u32,
  streams: array<Stream, 2u * MAX_STREAMS>,
}

@group(0) @binding(0) var<uniform> params: Job;

/// Number of this workgroup among those of its job.
fn start_job(group: vec3u, groups: vec3u) -> u32 { return group.x + group.y * groups.x; }

fn code_of(stream: u32) -> Code { return params.streams[stream].code; }

fn index_of(stream: u32) -> u32 { return params.streams[stream].index; }

fn codec_of(stream: u32) -> u32 { return params.streams[stream].codec; }

fn value_in(stream: u32) -> f32 { return params.streams[stream].value; }

fn journal_of(stream: u32) -> u32 { return params.streams[stream].journal; }
