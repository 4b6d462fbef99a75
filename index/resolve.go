package index

// resolver remembers segments, of which there are few beside all chunks, for one reader. It
// is as good as the reader's transaction.
type resolver struct {
	source   source            // the last one
	segments []resolvedSegment // by the last bits of the number
	signers  map[SignerAt]*SignerAt
}

type resolvedSegment struct {
	by     *SignerAt // nil if the segment is dead
	number uint32
	known  bool
}

const resolvedSegments = 1 << 14 // 256 KiB

// resolve returns the pack that an ordinal stands for and who says so, nil if the segment
// is dead. The pack is good until the next call.
func (r *reader) resolve(ordinal uint32) (*Pack, *SignerAt, error) {
	c := &r.resolver
	if c.segments == nil {
		c.segments, c.signers = make([]resolvedSegment, resolvedSegments), make(map[SignerAt]*SignerAt)
	}
	src := &c.source
	var err error
	if *src, err = r.knownSource(ordinal); err != nil {
		return nil, nil, err
	}
	seg := &c.segments[src.segment%resolvedSegments]
	if !seg.known || seg.number != src.segment {
		info, err := r.segment(src.segment)
		if err != nil {
			return nil, nil, err
		}
		*seg = resolvedSegment{number: src.segment, known: true}
		if info.alive {
			seg.by = c.signer(SignerAt{info.signer, info.place})
		}
	}
	return &src.pack, seg.by, nil
}

// signer returns the one copy of what it is given.
func (c *resolver) signer(by SignerAt) *SignerAt {
	s := c.signers[by]
	if s == nil {
		s = &by
		c.signers[by] = s
	}
	return s
}
