import { defineConfig } from '@playwright/test'
import { chromiumLaunchOptions } from './scripts/chromium.mjs'

const PORT = Number(process.env.E2E_PORT ?? 4319)
const HARNESS_PORT = Number(process.env.HARNESS_PORT ?? 4320)

/** End to end: the built page (`npm run build` first) as plain files, and the test harness from its sources. */
export default defineConfig({
  testDir: 'e2e',
  globalSetup: './scripts/global_setup.mjs',
  outputDir: 'test-results/e2e',
  // SwiftShader takes all cores: two pages at once are slower than one after the other.
  workers: 1,
  timeout: 300_000,
  expect: { timeout: 30_000 },
  reporter: 'list',
  use: {
    actionTimeout: 30_000,
    baseURL: `http://localhost:${PORT}/`,
    launchOptions: chromiumLaunchOptions(),
    viewport: { width: 1280, height: 800 },
    screenshot: 'off',
    trace: 'off',
  },
  webServer: [
    { command: `npx vite preview --port ${PORT} --strictPort`, port: PORT, reuseExistingServer: false },
    {
      command: `npx vite --config e2e/harness/vite.config.ts --port ${HARNESS_PORT} --strictPort`,
      port: HARNESS_PORT,
      reuseExistingServer: false,
    },
  ],
})
