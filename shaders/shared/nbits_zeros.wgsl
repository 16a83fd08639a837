// What blocks of quantized weights have beside their scales: `zero_points` of `NBits`.

/// The middle of the range; integers, packed like the weights; floats; none, but the value of q = 0.
const ZEROS_DEFAULT = 0u;
const ZEROS_PACKED = 1u;
const ZEROS_FLOAT = 2u;
const ZEROS_MINIMUM = 3u;
