/** The version in package.json, filled in by the build. */
declare const __TRITSWAP_VERSION__: string
