package index

import "hash/crc32"

// sum is what guards a value: two CRCs of 32 bits, of different polynomials (Castagnoli's
// and that of IEEE 802.3), which together are one of 64 bits: no damage of up to 64 bits in a
// row goes unnoticed, and of other damage one in 2^64. Processors compute both, so that a
// look-up may verify a KiB for some 100 ns; a cryptographic hash took ten times as long and would
// promise no more: whoever can write to the file can also compute its sums.
type sum [sumSize]byte

const sumSize = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// summer computes a sum over what is added. It begins with two numbers, for what is not
// among the bytes: with others, the same bytes have another sum.
type summer struct{ c, i uint32 }

func (s *summer) add(p []byte) {
	s.c = crc32.Update(s.c, castagnoli, p)
	s.i = crc32.Update(s.i, crc32.IEEETable, p)
}

func (s *summer) sum() sum {
	return sum{
		byte(s.c), byte(s.c >> 8), byte(s.c >> 16), byte(s.c >> 24),
		byte(s.i), byte(s.i >> 8), byte(s.i >> 16), byte(s.i >> 24),
	}
}
