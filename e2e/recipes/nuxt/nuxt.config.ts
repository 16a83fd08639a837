export default defineNuxtConfig({
  compatibilityDate: '2026-01-01',
  telemetry: false,
  // In development: workers are found beside the package's own scripts.
  vite: { optimizeDeps: { exclude: ['tritswap'] } },
})
