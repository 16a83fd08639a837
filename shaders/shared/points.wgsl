// Entry points of a block: where a reader stands that has taken all entries before a position. They are made at load, and no file
// has them.
//
// Three numbers of 12 bits for each of the 7: a word that has two of them and a part of the third, and a word for the rest of all
// thirds. None is over the position: each entry takes one position at least, and so does each zero of its code.
#import lanes

struct Point {
  /// Entries of the block before it.
  rank: u32,
  /// First position that the next entry may have.
  next: u32,
  /// Bits of the block before it, over `low + 2` for each of the entries: zeros, and the bits that long remainders have more.
  excess: u32,
}

/// Word of entry point `k` from 1 on, in the index of its block, and of the rest of all.
fn point_word(k: u32) -> u32 { return 1u + k; }
const POINT_REST = 9u;

fn pack_point(point: Point) -> u32 { return point.rank | (point.next << 12u) | (point.excess << 24u); }
fn pack_rest(point: Point, k: u32) -> u32 { return ((point.excess >> 8u) & 15u) << (4u * k - 4u); }

fn unpack_point(word: u32, rest: u32, k: u32) -> Point {
  return Point(word & 0xfffu, (word >> 12u) & 0xfffu, (word >> 24u) | (((rest >> (4u * k - 4u)) & 15u) << 8u));
}
