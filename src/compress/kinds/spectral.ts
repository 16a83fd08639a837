/**
 * FourierFT and WaveFT: a few coefficients of a transform, at positions that torch draws from a seed.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { type Matrix, matrix, transposedMatrix } from '../matrices.ts'
import { firstOfPermutation, MAX_PERMUTED } from '../torch_random.ts'
import { type AdapterKind, type Module, valuesOf } from './kind.ts'
import { WAVELETS } from './wavelets.ts'

/** Where the coefficients of a module are, as flat indices of [outputs, inputs]. */
function positionsOf(module: Module, part: string): Uint32Array {
  const { rows, cols } = module
  const count = module.shaped(part, -1).weights
  if (rows * cols >= MAX_PERMUTED || count > rows * cols) {
    throw new TritswapError(
      'unsupported',
      `Cannot compress what is trained for ${module.path}: torch draws the positions of its ${count} coefficients in ${rows} × ${cols} in a way that is not reproduced here; merge it into its base (peft: model.merge_and_unload()) and use --base <base> --finetuned merged`,
      { fields: { module: module.path, rows, cols, count } },
    )
  }
  return firstOfPermutation(rows * cols, count, module.number('random_loc_seed'))
}

/** FourierFT: the real part of the inverse Fourier transform in two dimensions. */
export const fourierft: AdapterKind = {
  label: 'FourierFT',
  parts: ['fourierft_spectrum'],
  fields: [
    ...['n_frequency', 'n_frequency_pattern', 'scaling', 'random_loc_seed', 'init_weights', 'fan_in_fan_out'],
  ],
  change(module) {
    const { rows, cols } = module
    const positions = positionsOf(module, 'fourierft_spectrum')
    const scaling = module.number('scaling') / (rows * cols)
    const values = async () => {
      const { values: spectrum } = await valuesOf(module.part('fourierft_spectrum'))
      const waves = Array.from({ length: cols }, (_, i) => (2 * Math.PI * i) / cols)
      const [cosines, sines] = [Float64Array.from(waves, Math.cos), Float64Array.from(waves, Math.sin)]
      const out = matrix(rows, cols)
      // By columns of the spectrum: coefficients of one column add up to one wave along the inputs of each row.
      const real = new Map<number, Float64Array>()
      const imaginary = new Map<number, Float64Array>()
      for (const [i, position] of positions.entries()) {
        const [u, v] = [Math.floor(position / cols), position % cols]
        const re = real.get(v) ?? new Float64Array(rows)
        const im = imaginary.get(v) ?? new Float64Array(rows)
        real.set(v, re)
        imaginary.set(v, im)
        for (let r = 0; r < rows; r++) {
          const angle = (2 * Math.PI * ((u * r) % rows)) / rows
          re[r] += spectrum[i] * Math.cos(angle)
          im[r] += spectrum[i] * Math.sin(angle)
        }
      }
      for (const [v, re] of real) {
        const im = imaginary.get(v)!
        for (let r = 0; r < rows; r++) {
          const [a, b] = [re[r] * scaling, im[r] * scaling]
          for (let c = 0, at = 0; c < cols; c++) {
            out.values[r * cols + c] += a * cosines[at] - b * sines[at]
            at += v
            if (at >= cols) at -= cols
          }
        }
      }
      return out
    }
    return { weight: { kind: 'delta', values } }
  },
}

/** WaveFT: one step of a wavelet's reconstruction, or the coefficients as they are. */
export const waveft: AdapterKind = {
  label: 'WaveFT',
  parts: ['waveft_spectrum'],
  fields: [
    ...['n_frequency', 'n_frequency_pattern', 'scaling', 'random_loc_seed', 'init_weights', 'fan_in_fan_out'],
    ...['wavelet_family', 'use_idwt', 'proportional_parameters'],
  ],
  refusal({ use_idwt, wavelet_family }) {
    if (use_idwt === false || Object.hasOwn(WAVELETS, String(wavelet_family))) return undefined
    return `wavelet_family is ${JSON.stringify(wavelet_family)}`
  },
  change(module) {
    const { rows, cols } = module
    const positions = positionsOf(module, 'waveft_spectrum')
    const scaling = module.number('scaling')
    const spectrum = async () => (await valuesOf(module.part('waveft_spectrum'))).values
    if (module.config.use_idwt === false) {
      const values = async () => {
        const out = matrix(rows, cols)
        for (const [i, value] of (await spectrum()).entries()) out.values[positions[i]] = scaling * value
        return out
      }
      return { weight: { kind: 'sparse', values } }
    }
    const low = WAVELETS[String(module.config.wavelet_family)]
    const values = async () => {
      // Room for what the filters cut off at the edges, to an even number.
      const margin = low.length - 2
      const [height, width] = [rows + margin + (rows % 2), cols + margin + (cols % 2)]
      const [top, left] = [(height - rows) >> 1, (width - cols) >> 1]
      const coefficients = matrix(height, width)
      for (const [i, value] of (await spectrum()).entries()) {
        const [r, c] = [Math.floor(positions[i] / cols) + top, (positions[i] % cols) + left]
        // peft takes the upper right quarter for what is detailed along the outputs, the lower left for the inputs.
        const [down, across] = [r >= height / 2, c >= width / 2]
        const toRow = r + (down === across ? 0 : down ? -height / 2 : height / 2)
        const toCol = c + (down === across ? 0 : across ? -width / 2 : width / 2)
        coefficients.values[toRow * width + toCol] = scaling * value
      }
      const across = reconstructedRows(coefficients, low)
      const whole = transposedMatrix(reconstructedRows(transposedMatrix(across), low))
      const [down, right] = [(whole.rows - rows) >> 1, (whole.cols - cols) >> 1]
      const out = matrix(rows, cols)
      for (let r = 0; r < rows; r++) {
        const at = (r + down) * whole.cols + right
        out.values.set(whole.values.subarray(at, at + cols), r * cols)
      }
      return out
    }
    return { weight: { kind: 'delta', values } }
  },
}

/** Rows whose first half are averages and whose second are details, as they were before the wavelet took them apart. */
function reconstructedRows(of: Matrix, low: readonly number[]): Matrix {
  const half = of.cols / 2
  const taps = low.length
  const high = low.map((_, i) => (i % 2 === 0 ? 1 : -1) * low[taps - 1 - i])
  // A transposed convolution of stride 2, without the filter's length but one of each side.
  const cut = (2 * taps - 3) >> 1
  const out = matrix(of.rows, 2 * (half - 1) + taps - 2 * cut)
  for (let r = 0; r < of.rows; r++)
    for (let i = 0; i < half; i++) {
      const [average, detail] = [of.values[r * of.cols + i], of.values[r * of.cols + half + i]]
      if (average === 0 && detail === 0) continue
      for (let t = 0; t < taps; t++) {
        const at = 2 * i + t - cut
        if (at >= 0 && at < out.cols) out.values[r * out.cols + at] += average * low[t] + detail * high[t]
      }
    }
  return out
}
