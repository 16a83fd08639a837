import type { SectionForm } from '../format/codecs/codec.ts'
import { formOf } from '../format/codecs/index.ts'
import type { TritTensor } from '../format/index.ts'

/** The forms in which tensors of experts lie in the arena. */
export type StreamForm = Extract<SectionForm, { kind: 'golomb' | 'dense' | 'terms' | 'steps' }>

/** `Code` of shaders/shared/golomb.wgsl, where other codecs have other things. */
export type CodeParams = Record<'words' | 'm' | 'low' | 'cut', number>

/** Whether the CPU makes what is in the arena of a tensor of an expert, because no kernel reads what the file holds. */
export function isDecoded(tensor: TritTensor): boolean {
  const { kind } = formOf(tensor)
  return kind !== 'golomb' && kind !== 'dense'
}

/** Of tensors in use: a switch asks for the form of each of them several times. */
const forms = new WeakMap<TritTensor, StreamForm>()

/** The form of a tensor of an expert in the arena. */
export function streamForm(tensor: TritTensor): StreamForm {
  let form = forms.get(tensor)
  if (form === undefined) {
    const stored = formOf(tensor)
    form = stored.kind === 'opaque' || stored.kind === 'nbits' ? { kind: 'dense', dtype: 'f32' } : stored
    forms.set(tensor, form)
  }
  return form
}
