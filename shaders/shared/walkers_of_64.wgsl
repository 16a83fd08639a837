// Workgroups for a GPU: a multiple of every width that its vectors have.
const WALKERS = 64u;

/// Positions that `blend` works through at a time. Private memory of all that run at once is memory of the GPU.
const SPAN = 256u;
