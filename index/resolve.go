package index

// resolver remembers what ordinals stand for, for one reader: neighbouring chunks of a file
// are mostly in one pack, and there are few segments beside all chunks. It is as good as the
// reader's transaction.
type resolver struct {
	sources  []resolvedSource  // by the last bits of the ordinal
	segments []resolvedSegment // by the last bits of the number
	signers  map[SignerAt]*SignerAt
}

type resolvedSource struct {
	source
	ordinal uint32
	known   bool
}

type resolvedSegment struct {
	by     *SignerAt // nil if the segment is dead
	number uint32
	known  bool
}

// Some 64 and 384 KiB.
const (
	resolvedSources  = 1 << 10
	resolvedSegments = 1 << 14
)

// resolve returns the pack that an ordinal stands for and who says so, nil if the segment
// is dead.
func (r *reader) resolve(ordinal uint32) (*Pack, *SignerAt, error) {
	c := &r.resolver
	if c.sources == nil {
		c.sources, c.segments = make([]resolvedSource, resolvedSources), make([]resolvedSegment, resolvedSegments)
		c.signers = make(map[SignerAt]*SignerAt)
	}
	src := &c.sources[ordinal%resolvedSources]
	if !src.known || src.ordinal != ordinal {
		s, err := r.source(ordinal)
		if err != nil {
			return nil, nil, err
		}
		*src = resolvedSource{s, ordinal, true}
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
