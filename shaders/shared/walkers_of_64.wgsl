// Workgroups for a GPU: a multiple of every width that its vectors have.
const WALKERS = 64u;
