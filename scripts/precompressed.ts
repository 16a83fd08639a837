import { createReadStream, createWriteStream, mkdirSync, readdirSync, statSync } from 'node:fs'
import { copyFile, rename, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { constants, createBrotliCompress, createGzip } from 'node:zlib'
import type { Plugin } from 'vite'

/** Next to the best that brotli does, in a tenth of the time. */
const QUALITY = 9
/** Made once for each size and time of a file: a build has nothing else to do for so long. */
const CACHE = 'node_modules/.cache/tritswap'

const ENCODINGS = {
  br: (bytes: number) =>
    createBrotliCompress({
      params: {
        [constants.BROTLI_PARAM_QUALITY]: QUALITY,
        [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
        [constants.BROTLI_PARAM_SIZE_HINT]: bytes,
      },
    }),
  gz: () => createGzip({ level: 9 }),
}

/** Writes `.br` and `.gz` copies beside the wasm of a build, for hosts that serve such copies where a browser takes them. */
export function precompressed(): Plugin {
  let root = ''
  let folder = ''
  return {
    name: 'tritswap:precompressed',
    apply: 'build',
    enforce: 'post',
    configResolved(config) {
      root = config.root
      folder = resolve(config.root, config.build.outDir, 'ort')
    },
    // After the files are copied there.
    async closeBundle() {
      const cache = join(root, CACHE)
      mkdirSync(cache, { recursive: true })
      const files = readdirSync(folder).filter((name) => name.endsWith('.wasm'))
      await Promise.all(
        files.flatMap((name) =>
          (['br', 'gz'] as const).map(async (encoding) => {
            const file = join(folder, name)
            const { size } = statSync(file)
            const kept = join(cache, `${name}-${size}-q${QUALITY}.${encoding}`)
            if (!(await stat(kept).catch(() => undefined))) {
              const half = `${kept}.${process.pid}`
              await pipeline(createReadStream(file), ENCODINGS[encoding](size), createWriteStream(half))
              await rename(half, kept)
            }
            await copyFile(kept, `${file}.${encoding}`)
          }),
        ),
      )
    },
  }
}
