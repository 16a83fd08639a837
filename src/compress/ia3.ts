/**
 * The vectors of (IA)³: they scale what goes into a module or what comes out of it.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { AdapterContext, AdapterTensor } from './adapter_context.ts'
import { quantizationOf, quantizedCheckpoint } from './checkpoint_kinds.ts'
import { noTarget } from './no_target.ts'
import type { Ia3Settings } from './peft_config.ts'
import { placeholder } from './placeholders.ts'
import type { TaskTensor } from './task_vector.ts'

/** @throws {TritswapError} for a vector of another length than the configuration or the base say */
export function ia3Tensor(
  { stored, path }: AdapterTensor,
  { settings, base, baseNames }: AdapterContext<Ia3Settings>,
): TaskTensor {
  const { name, shape, weights } = stored
  const feedforward = settings.isFeedforward(path)
  const linear = shape.length === 2 && shape[feedforward ? 0 : 1] === 1
  const conv = shape.length === 4 && weights === shape[1]
  if (!linear && !conv) {
    throw new TritswapError(
      'input',
      `Cannot compress ${name}: expected ${feedforward ? '[1, in]' : '[out, 1]'} as adapter_config.json says, found [${shape}]`,
      { fields: { tensor: name, shape } },
    )
  }
  const weight = baseNames?.find(`${path}.weight`)
  const side = feedforward ? 1 : 0
  const isOblong = weight?.shape.length === 2 && weight.shape[0] !== weight.shape[1]
  const isConv1d = !conv && (isOblong ? weight.shape[1 - side] === weights : settings.fanInFanOut)
  if (base !== undefined && weight?.shape[isConv1d ? 1 - side : side] !== weights) {
    const scheme = quantizationOf(base)
    if (scheme !== undefined) throw quantizedCheckpoint(`${path}.weight`, base.name, scheme)
    if (weight?.weights === 0) throw placeholder(weight)
    throw noTarget(path, feedforward ? ['out', weights] : [weights, 'in'], base.name, weight)
  }
  return {
    name,
    shape,
    role: 'ia3',
    target: weight?.name ?? `${path}.weight`,
    layout: conv ? 'conv2d' : isConv1d ? 'conv1d' : 'linear',
    feedforward,
    theta: stored,
    init: 1,
  }
}
