package seal

import "math/bits"

// Padme returns the size to which n bytes are padded so that the size tells
// little: at most O(log log n) bits, for at most 12 % more bytes, less the
// larger n is (Nikitin et al., Reducing Metadata Leakage from Encrypted Files
// and Communication with PURBs, PETS 2019, section 4).
func Padme(n int) int {
	if n < 2 {
		return n
	}
	e := bits.Len(uint(n)) - 1
	s := bits.Len(uint(e))
	mask := 1<<(e-s) - 1
	return (n + mask) &^ mask
}

// appendPadding appends zero bytes up to Padme of p's length.
func appendPadding(p []byte) []byte {
	return append(p, make([]byte, Padme(len(p))-len(p))...)
}
