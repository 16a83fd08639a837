// Workgroups for a CPU that plays GPU, which gives each to one of its threads: a tensor of 64 blocks in one group would keep
// the others idle. Nothing has wider vectors than 8 there.
const WALKERS = 8u;
