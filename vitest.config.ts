import { playwright } from '@vitest/browser-playwright'
import { defineConfig } from 'vitest/config'
import { chromiumLaunchOptions } from './scripts/chromium.mjs'
import { engineFiles } from './scripts/engine_files.ts'
import { webTransformers } from './tests/engine/web_transformers.ts'

/** What tests read of the environment by `import.meta.env`, in Node and in browsers. */
const env = { LONG: process.env.LONG ?? '', SEED: process.env.SEED ?? '' }

/** Ends what hangs. The long tier has tests that take ten minutes, more beside others. */
const LIMIT = env.LONG ? 3_600_000 : 300_000

/** A second, as it is otherwise, is not enough on a machine that is shared. */
const PATIENT = { poll: { timeout: 30_000 } }

const node = {
  environment: 'node',
  env,
  setupFiles: ['tests/seed.ts'],
  globalSetup: ['scripts/global_setup.mjs', 'tests/scratch.ts'],
  testTimeout: LIMIT,
  hookTimeout: LIMIT,
  expect: PATIENT,
}
/** Node tests that put others in the place of modules, or load them anew. */
const ALONE = [
  'tests/loader/attached_base.test.ts',
  'tests/onnx/parses.test.ts',
  'tests/rpc/start_worker.test.ts',
]

export default defineConfig({
  test: {
    projects: [
      {
        plugins: [webTransformers()],
        test: {
          ...node,
          name: 'node',
          include: ['tests/**/*.test.ts'],
          exclude: ['tests/**/*.browser.test.ts', ...ALONE],
          // One process loads modules, and compiles onnxruntime's wasm, once for all files.
          isolate: false,
        },
      },
      { test: { ...node, name: 'alone', include: ALONE } },
      {
        plugins: [engineFiles()],
        test: {
          name: 'browser',
          expect: PATIENT,
          env,
          include: ['tests/**/*.browser.test.ts'],
          testTimeout: LIMIT,
          hookTimeout: LIMIT,
          fileParallelism: false,
          globalSetup: ['e2e/servers/vitest_setup.ts'],
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({ launchOptions: chromiumLaunchOptions() }),
            instances: [{ browser: 'chromium' }],
          },
        },
      },
    ],
  },
})
