package delta

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// space is what copies address: the bytes of the bases, one after the other. A
// copy may reach from the first into the second.
type space struct {
	first, second []byte
}

func newSpace(bases [][]byte) space {
	switch len(bases) {
	case 0:
		return space{}
	case 1:
		return space{first: bases[0]}
	case MaxBases:
		return space{first: bases[0], second: bases[1]}
	}
	panic(fmt.Sprintf("delta: %d bases, %d are the most", len(bases), MaxBases))
}

func (s *space) size() int { return len(s.first) + len(s.second) }

// appendTo appends the n bytes from position at on.
func (s *space) appendTo(dst []byte, at, n int) []byte {
	if at >= len(s.first) {
		at -= len(s.first)
		return append(dst, s.second[at:at+n]...)
	}
	n1 := min(n, len(s.first)-at)
	dst = append(dst, s.first[at:at+n1]...)
	return append(dst, s.second[:n-n1]...)
}

// tail returns what follows position at in the base that it lies in.
func (s *space) tail(at int) []byte {
	if at >= len(s.first) {
		return s.second[min(at-len(s.first), len(s.second)):]
	}
	return s.first[at:]
}

// forward returns how many bytes from position at on equal the front of p.
func (s *space) forward(at int, p []byte) int {
	n := commonPrefix(s.tail(at), p)
	if at < len(s.first) && at+n == len(s.first) {
		n += commonPrefix(s.second, p[n:])
	}
	return n
}

// backward returns how many bytes before position at equal the end of p.
func (s *space) backward(at int, p []byte) int {
	if at <= len(s.first) {
		return commonSuffix(s.first[:at], p)
	}
	n := commonSuffix(s.second[:at-len(s.first)], p)
	if at-n == len(s.first) {
		n += commonSuffix(s.first, p[:len(p)-n])
	}
	return n
}

// commonPrefix returns how many bytes at the front of a and b are equal.
//
//go:norace
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// commonSuffix returns how many bytes at the end of a and b are equal.
//
//go:norace
func commonSuffix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[len(a)-n:], b[len(b)-n:]
	i := n
	for ; i >= 8; i -= 8 {
		if x := binary.LittleEndian.Uint64(a[i-8:]) ^ binary.LittleEndian.Uint64(b[i-8:]); x != 0 {
			return n - i + bits.LeadingZeros64(x)/8
		}
	}
	for i > 0 && a[i-1] == b[i-1] {
		i--
	}
	return n - i
}
