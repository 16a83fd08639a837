// W := W + sum of weight * scale * x * y^T over a whole tensor: the merge of the ternary rank-1 terms of a set, rounded once.
#import terms_tile

const IN_PLACE = true;

/// Sums of all pairs.
fn tile_sums(x: Along, i: u32, tile: u32) -> Sums {
  var all = sums_of(0u, x, tile);
  for (var k = 1u; k < params.pairs; k++) {
    let more = sums_of(k, along_of(k, i), tile);
    all.a += more.a;
    all.b += more.b;
    all.c += more.c;
    all.d += more.d;
    all.e += more.e;
    all.f += more.f;
    all.g += more.g;
    all.h += more.h;
  }
  return all;
}

@compute @workgroup_size(64)
fn terms(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let strip = params.first_strip + (group.x + group.y * groups.x) * 64u + lane;
  if (strip < params.end_strip) { change_strip(strip); }
}
