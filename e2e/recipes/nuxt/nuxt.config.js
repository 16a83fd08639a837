export default defineNuxtConfig({
  compatibilityDate: '2025-07-15',
  vite: { optimizeDeps: { exclude: ['tritswap'] } },
})
