import vue from '@vitejs/plugin-vue'

export default {
  plugins: [vue()],
  // In development: workers are found beside the package's own scripts.
  optimizeDeps: { exclude: ['tritswap'] },
}
