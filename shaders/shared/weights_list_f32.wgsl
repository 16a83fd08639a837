// The buffers of the tensors that a dispatch works on: each in a slot of its own, because WGSL has no arrays of buffers.
#requires params
#slot @group(0) @binding(SLOT+5) var<storage, read_write> weights_SLOT: array<u32>;

fn word_at(at: u32) -> u32 {
  switch params.slot {
#slot    case SLOTu: { return weights_SLOT[at]; }
    default: { return 0u; }
  }
}

fn set_word(at: u32, word: u32) {
  switch params.slot {
#slot    case SLOTu: { weights_SLOT[at] = word; }
    default: {}
  }
}
