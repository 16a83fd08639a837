/** `LONG=1` asks for the long tier: everything at full length, and the tests that only run there. */
export const LONG = Number(process.env.LONG ?? 0) > 0
/** Why a test is skipped in the quick tier. */
export const ONLY_LONG = 'only with LONG=1'
