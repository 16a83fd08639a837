/** The library's entry under its first address, for pages that import the sources: `loader/index.ts` is what it holds. */
export * from './loader/index.ts'
