// Workgroups for other CPUs that play GPU: nothing has wider vectors than 8 there.
const WALKERS = 8u;

/// Positions that `blend` works through at a time. llvmpipe compiles for half a minute where there are four KiB of sums.
const SPAN = 256u;
