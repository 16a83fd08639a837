/** A folder of static files: `next build` writes `out`. */
export default { output: 'export' }
