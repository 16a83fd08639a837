#import workgroup

/// Number of this invocation in its dispatch.
fn invocation_of(group: vec3u, groups: vec3u, lane: u32) -> u32 {
  return (group.x + group.y * groups.x) * WORKGROUP_SIZE + lane;
}
