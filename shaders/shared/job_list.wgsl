// A dispatch that works on many jobs: each has workgroups of its own, and its weights in one of the slots. The list is in
// uniform memory, which takes nothing from the storage buffers that a stage may have.
#requires Stream, Code

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
  /// How many streams are reverted, and how many after them are applied.
  reverted: u32,
  applied: u32,
  /// Of the buffer with its weights.
  slot: u32,
  /// In the streams of the list.
  first_stream: u32,
  /// Workgroups of the jobs before it.
  first_group: u32,
  unused: u32,
}

/// Room in one list.
const MAX_JOBS = 32u;
const MAX_LISTED = 64u;

struct JobList {
  jobs: array<Job, MAX_JOBS>,
  streams: array<Stream, MAX_LISTED>,
  count: u32,
}

@group(0) @binding(0) var<uniform> list: JobList;

/// The job of this invocation.
var<private> params: Job;

/// Finds the job. @returns number of this workgroup among those of its job
fn start_job(group: vec3u, groups: vec3u) -> u32 {
  let number = group.x + group.y * groups.x;
  var low_end = 0u;
  var high_end = list.count;
  while (high_end - low_end > 1u) {
    let middle = (low_end + high_end) / 2u;
    if (list.jobs[middle].first_group <= number) { low_end = middle; } else { high_end = middle; }
  }
  params = list.jobs[low_end];
  return number - params.first_group;
}

fn code_of(stream: u32) -> Code { return list.streams[params.first_stream + stream].code; }

fn index_of(stream: u32) -> u32 { return list.streams[params.first_stream + stream].index; }

fn codec_of(stream: u32) -> u32 { return list.streams[params.first_stream + stream].codec; }

fn value_in(stream: u32) -> f32 { return list.streams[params.first_stream + stream].value; }

fn journal_of(stream: u32) -> u32 { return list.streams[params.first_stream + stream].journal; }
