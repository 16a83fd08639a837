import * as old from '/tmp/gpu-base/bench/kernels/shapes.ts'
import { nodeGpu } from '/work/wt/gpu/bench/gpu/node_gpu.ts'
import * as neu from '/work/wt/gpu/bench/kernels/shapes.ts'

const [size, rounds, dtypes, tuningText] = process.argv.slice(2)
const rows = Number(size)
const base = await nodeGpu()
const tuning = tuningText ? JSON.parse(tuningText) : undefined
for (const dtype of dtypes.split(',')) {
  const tensors = [{ name: 'w', shape: [rows, 4096] }]
  const worlds: any = {}
  worlds.old = await old.shapedWorld(base as any, tensors, { dtype, density: 0.05, experts: 4 } as any)
  worlds.neu = await neu.shapedWorld({ ...base, tuning } as any, tensors, {
    dtype,
    density: 0.05,
    experts: 4,
  } as any)
  const best: any = {}
  for (let round = 0; round < Number(rounds); round++) {
    for (const which of round % 2 ? ['old', 'neu'] : ['neu', 'old']) {
      const w = worlds[which]
      const [a, b, c, d] = w.residents.map((expert: any) => ({ expert, weight: 1 }))
      for (const [name, set] of [
        ['apply', [a]],
        ['A to B', [b]],
        ['r0', []],
        ['two', [a, b]],
        ['revert two', []],
      ] as any) {
        await base.device.queue.onSubmittedWorkDone()
        const from = process.cpuUsage()
        await w.switcher.apply(set)
        await base.device.queue.onSubmittedWorkDone()
        const { user, system } = process.cpuUsage(from)
        const ms = (user + system) / 1000
        const key = name
        best[key] ??= { old: [], neu: [] }
        best[key][which].push(ms)
      }
    }
  }
  const med = (v: number[]) => v.toSorted((x, y) => x - y)[Math.floor(v.length * 0.25)]
  for (const [name, t] of Object.entries<any>(best)) {
    const o = med(t.old),
      n = med(t.neu)
    console.log(
      dtype,
      name.padEnd(14),
      'old',
      o.toFixed(2).padStart(8),
      `(${(o / med(best.apply.old)).toFixed(2)} applies)`,
      'new',
      n.toFixed(2).padStart(8),
      `(${(n / med(best.apply.neu)).toFixed(2)} applies)`,
      'ratio',
      (n / o).toFixed(3),
    )
  }
  worlds.old.destroy()
  worlds.neu.destroy()
}
process.exit(0)
