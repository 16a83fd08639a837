// Invocations that walk one block each, WALKERS to a workgroup.
#import walkers_of

/// Number of this invocation among all of its dispatch.
fn walker_of(group: vec3u, groups: vec3u, lane: u32) -> u32 { return (group.x + group.y * groups.x) * WALKERS + lane; }
