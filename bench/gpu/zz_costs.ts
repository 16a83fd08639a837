// times of whole-tensor merges on SwiftShader: terms 2, lora r=8 dense, ia3; per weight
import { create, globals } from 'webgpu'
Object.assign(globalThis, globals)
Object.defineProperty(globalThis, 'navigator', { value: { gpu: create(['enable-dawn-features=allow_unsafe_apis']) }, configurable: true })
const { requestGpu } = await import('../../src/gpu/index.ts')
const { blocksOf, container, denseOf, engineFor, placementOf, termsOf } = await import('../../tests/gpu/fixtures.ts')
const { Random } = await import('../../tests/gpu/random.ts')
const gpu = await requestGpu()
const random = new Random(1)
const shape = [1536, 576]
const names = ['a', 'b']
const n = 2 * 1536 * 576
for (const form of (process.env.ALL ? ['q4', 'f32'] : ['q4']) as any) {
  const base = await container('base', names.map((name) => form === 'q4' ? blocksOf(name, shape, { bits: 4, blockSize: 32, dtype: 'f16', minimums: true }, random) : denseOf(name, shape, random.floats(1536 * 576), 'f32')))
  const engine = await engineFor(base, names.map((name) => ({ name, dtype: 'float32', dims: [576, 1536], parts: [placementOf(name, shape, 'transposed')] })), 2 ** 28, gpu)
  const make = {
    terms1: (name: string) => [termsOf(name + '.t', shape, 1, random, { target: name, layout: 'linear' })],
    terms2: (name: string) => [termsOf(name + '.t', shape, 2, random, { target: name, layout: 'linear' })],
    terms8: (name: string) => [termsOf(name + '.t', shape, 8, random, { target: name, layout: 'linear' })],
    lora8: (name: string) => [denseOf(name + '.A', [8, 576], random.floats(8 * 576), 'f16', { target: name, layout: 'linear', role: 'loraA' }), denseOf(name + '.B', [1536, 8], random.floats(8 * 1536), 'f16', { target: name, layout: 'linear', role: 'loraB', scaling: 1 })],
    ia3: (name: string) => [denseOf(name + '.l', [1536, 1], random.floats(1536), 'f32', { target: name, layout: 'linear', role: 'ia3', feedforward: false })],
  }
  for (const [kind, of] of Object.entries(make)) {
    if (!process.env.ALL && kind !== 'terms2') continue
    const expert = await engine.load(await container('expert', names.flatMap(of)))
    let best = Infinity, back = Infinity
    for (let i = 0; i < (kind === "lora8" || kind === "ia3" ? 1 : 4); i++) {
      let from = process.cpuUsage()
      await engine.switcher.apply([{ expert, weight: 1 }], { timed: true }); await gpu.device.queue.onSubmittedWorkDone()
      let t = process.cpuUsage(from); best = Math.min(best, t.user + t.system)
      from = process.cpuUsage()
      await engine.switcher.revert({ timed: true }); await gpu.device.queue.onSubmittedWorkDone()
      t = process.cpuUsage(from); back = Math.min(back, t.user + t.system)
    }
    console.log(form, kind, 'apply', (best * 1000 / n).toFixed(2), 'ns/weight CPU; back', (back * 1000 / n).toFixed(2))
  }
  engine.destroy()
}
gpu.device.destroy()
process.exit(0)
