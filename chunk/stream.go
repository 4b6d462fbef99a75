package chunk

import "io"

// Stream cuts what a reader delivers into chunks. It is for one goroutine.
type Stream struct {
	r   io.Reader
	s   Splitter
	max int

	// buf[lo:hi] is read and not yet returned. After fill, either hi is
	// len(buf) or err is set.
	buf    []byte
	lo, hi int
	err    error // of the reader, io.EOF included; final
}

// NewStream returns a Stream of the chunks that s makes of what r delivers.
// It reads into buf, which the caller may use again once the Stream is done
// with. A buf of 2*Max bytes or more is best; if it has less than Max, the
// Stream makes one of 2*Max for itself.
func NewStream(r io.Reader, s Splitter, buf []byte) *Stream {
	longest := s.Params().Max
	if len(buf) < longest {
		buf = make([]byte, 2*longest)
	}
	return &Stream{r: r, s: s, max: longest, buf: buf}
}

// Next returns the next chunk, which is valid until the call after it, or
// io.EOF after the last one; an empty input has none.
//
// An error of the reader is returned as it is, after the chunks that were
// complete before it, and again by every later call. What had been read of
// the chunk in which it happened is never returned: half a file must not look
// like a short one.
func (st *Stream) Next() ([]byte, error) {
	for {
		p := st.buf[st.lo:st.hi]
		n := st.s.Cut(p)
		// A cut before the end of p stands, whatever follows. One at the end
		// of p is known to be one only if the chunk may not grow or the input
		// ends there.
		if n < len(p) || n == st.max || (st.err == io.EOF && n > 0) {
			st.lo += n
			return p[:n:n], nil
		}
		if st.err != nil {
			return nil, st.err
		}
		st.fill()
	}
}

// fill moves what is left to the front of the buffer and reads until the
// buffer is full or the reader has an error. Next calls it only when what is
// left holds no cut, so no byte is moved or searched twice but those of the
// one chunk that reaches over the buffer's end; and since that chunk is
// shorter than Max, there is room behind it.
func (st *Stream) fill() {
	st.hi = copy(st.buf, st.buf[st.lo:st.hi])
	st.lo = 0
	// io.ReadFull would not do: its io.ErrUnexpectedEOF for a short read
	// cannot be told from that of a reader that was itself cut short.
	for idle := 0; st.hi < len(st.buf) && st.err == nil; {
		n, err := st.r.Read(st.buf[st.hi:])
		st.hi += n
		st.err = err
		if n > 0 {
			idle = 0
		} else if idle++; idle == maxIdleReads && err == nil {
			st.err = io.ErrNoProgress
		}
	}
}

// maxIdleReads is how often in a row a reader may deliver nothing, without an
// error, before the Stream gives it up; bufio has the same patience.
const maxIdleReads = 100
