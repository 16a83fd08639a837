/**
 * Import rules: imports point left only along
 * errors <- source <- format <- { compress, onnx, gpu } <- model <- engine <- loader <- element | cli | demo.
 */
const CORE = ['errors', 'secure_context', 'async', 'source', 'format']
const MIDDLE = [...CORE, 'compress', 'onnx', 'gpu', 'model']
const ALL = [...MIDDLE, 'route', 'reference', 'rpc', 'fetcher', 'engine', 'loader']

/** Layer -> the layers it may import; each may import itself. */
const MAY_IMPORT = {
  errors: [],
  secure_context: ['errors'],
  async: ['errors'],
  source: ['errors', 'secure_context', 'async'],
  rpc: ['errors', 'async'],
  format: ['errors', 'secure_context', 'async', 'source'],
  route: CORE,
  compress: CORE,
  onnx: CORE,
  gpu: CORE,
  fetcher: [...CORE, 'rpc'],
  model: [...MIDDLE, 'rpc', 'fetcher'],
  reference: MIDDLE,
  engine: [...MIDDLE, 'rpc', 'fetcher'],
  loader: ALL,
  openai: ALL,
  element: ALL,
  cli: ALL,
  demo: [...ALL, 'element'],
}

/** Paths of layers: a folder under src, or the one file of that name. */
const pathOf = (layers) => `^src/(${layers.join('|')})(/|\\.ts$)`

const directions = Object.entries(MAY_IMPORT).map(([layer, allowed]) => ({
  name: `${layer}-imports-left-only`,
  comment: `src/${layer} may import: ${allowed.join(', ') || 'nothing'}`,
  severity: 'error',
  from: { path: pathOf([layer]) },
  to: { path: '^src/', pathNot: pathOf([layer, ...allowed]) },
}))

/** Rooms of src/onnx, each with the rooms that it may import: proto <- graph <- resolve <- quantized | unfold <- hoist | bypass. */
const ONNX_ROOMS = {
  proto: [],
  graph: ['proto'],
  resolve: ['proto', 'graph'],
  quantized: ['proto', 'graph', 'resolve'],
  unfold: ['proto', 'graph', 'resolve'],
  hoist: ['proto', 'graph', 'resolve', 'quantized', 'unfold'],
  bypass: ['proto', 'graph', 'resolve', 'quantized'],
}

const onnxRooms = Object.entries(ONNX_ROOMS).map(([room, allowed]) => ({
  name: `onnx-${room}-imports-earlier-rooms`,
  comment: `src/onnx/${room} may import these rooms of src/onnx: ${allowed.join(', ') || 'none'}`,
  severity: 'error',
  from: { path: `^src/onnx/${room}/` },
  to: { path: '^src/onnx/', pathNot: `^src/onnx/(${[room, ...allowed].join('|')})/` },
}))

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...directions,
    ...onnxRooms,
    {
      name: 'onnx-is-imported-by-its-index',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/onnx/' },
      to: { path: '^src/onnx/', pathNot: '^src/onnx/index\\.ts$' },
    },
    {
      name: 'every-file-has-a-layer',
      severity: 'error',
      from: { path: '^src/', pathNot: pathOf(Object.keys(MAY_IMPORT)) },
      to: {},
    },
    {
      name: 'gpu-rooms',
      comment: 'In src/gpu, the rooms weights and experts know nothing of each other; switch may import both',
      severity: 'error',
      from: { path: '^src/gpu/(weights|experts)/' },
      to: { path: '^src/gpu/(weights|experts|switch)/', pathNot: '^src/gpu/$1/' },
    },
    {
      name: 'gpu-ground-floor',
      comment: 'The files of src/gpu itself serve its rooms; only its index imports from them',
      severity: 'error',
      from: { path: '^src/gpu/[^/]+$', pathNot: '^src/gpu/index[.]ts$' },
      to: { path: '^src/gpu/[^/]+/' },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true, pathNot: '\\?' } },
    {
      name: 'node-is-for-the-command-line',
      comment: 'Everything else also runs in a browser',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/cli/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'product-does-not-import-tests',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(tests|e2e|scripts)/' },
    },
    {
      name: 'inference-stays-in-the-engine',
      comment:
        'Only what runs in the engine worker or in Node may pull in transformers.js or onnxruntime-web',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(engine|cli)/' },
      to: { path: '(^|/)(@xenova/transformers|@huggingface/transformers|onnxruntime-web)(/|$)' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'default'] },
  },
}
