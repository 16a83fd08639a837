// As weights_list_f32, for words that invocations share.
#requires params
#slot @group(0) @binding(SLOT+5) var<storage, read_write> weights_SLOT: array<atomic<u32>>;

fn word_at(at: u32) -> u32 {
  switch params.slot {
#slot    case SLOTu: { return atomicLoad(&weights_SLOT[at]); }
    default: { return 0u; }
  }
}

fn flip_word(at: u32, bits: u32) {
  switch params.slot {
#slot    case SLOTu: { atomicXor(&weights_SLOT[at], bits); }
    default: {}
  }
}
