/** The version in package.json, put in by the build. */
declare const __TRITSWAP_VERSION__: string
