// Workgroups for other CPUs that play GPU: nothing has wider vectors than 8 there.
const WALKERS = 8u;
