export default {
  // In development: workers are found beside the package's own scripts.
  optimizeDeps: { exclude: ['tritswap'] },
}
