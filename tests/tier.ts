/** What `LONG=…` asks for: 0 the quick tier, 1 the long one, 2 sweeps that take hours. */
export const LONG = Number(import.meta.env.LONG || 0)
