package delta

import "fmt"

// space is what copies address: the bytes of the bases, one after the other.
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

func (s *space) size() int64 { return int64(len(s.first)) + int64(len(s.second)) }

// appendTo appends the n bytes at from.
func (s *space) appendTo(dst []byte, from, n int) []byte {
	if from >= len(s.first) {
		from -= len(s.first)
		return append(dst, s.second[from:from+n]...)
	}
	n1 := min(n, len(s.first)-from)
	dst = append(dst, s.first[from:from+n1]...)
	return append(dst, s.second[:n-n1]...)
}

// forward returns how many bytes at position at equal the front of p.
func (s *space) forward(at int, p []byte) int {
	if at >= len(s.first) {
		return commonPrefix(s.second[at-len(s.first):], p)
	}
	n := commonPrefix(s.first[at:], p)
	if at+n == len(s.first) {
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
