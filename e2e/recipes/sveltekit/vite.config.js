import { sveltekit } from '@sveltejs/kit/vite'

export default {
  plugins: [sveltekit()],
  // In development: workers are found beside the package's own scripts.
  optimizeDeps: { exclude: ['tritswap'] },
}
