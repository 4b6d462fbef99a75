package refreader

// Parsers says for each form of the document whether this reader takes bytes for it.
// Those of sealed forms want the plaintext with its padding, those of config and slots
// the whole object, and those of tombstones and condemned the body.
var Parsers = map[string]func([]byte) error{
	"node":      ignoring(parseNode),
	"list":      ignoring(parseListNode),
	"segment":   ignoring(parseSegment),
	"open part": ignoring(parseOpenPart),
	"body":      ignoring(parseClosedPart),
	"tombstone": ignoring(parseTombstone),
	"condemned": ignoring(parseCondemned),
	"config":    ignoring(parseConfig),
	"begin":     func(b []byte) error { return ignoring(parseBegin(leaseIn(b)))(b) },
	"end":       func(b []byte) error { return ignoring(parseEnd(leaseIn(b)))(b) },
	"slot": func(b []byte) error {
		o, err := parseSigned(b, kindSlot)
		if err != nil {
			return err
		}
		return ignoring(parseSlot)(o)
	},
}

func ignoring[S, T any](parse func(S) (T, error)) func(S) error {
	return func(s S) error {
		_, err := parse(s)
		return err
	}
}

// leaseIn is the lease that an object claims to be of.
func leaseIn(b []byte) (id ID) {
	copy(id[:], b)
	return id
}

// Samples are valid encodings of some of these forms.
func Samples() map[string][][]byte {
	lists := [][]byte{}
	for _, l := range sampleLists() {
		lists = append(lists, encodeListNode(l))
	}
	return map[string][][]byte{
		"node":      {encodeNode(sampleLeaf()), encodeNode(sampleInner()), encodeNode(node{})},
		"list":      lists,
		"segment":   {encodeSegment(sampleSegment()), encodeSegment(segment{})},
		"open part": {encodeOpenPart(sampleOpenPart()), encodeOpenPart(OpenPart{})},
		"body":      {encodeClosedPart(sampleClosedPart()), encodeClosedPart(ClosedPart{Root: sampleID(1)})},
	}
}

// ApplyDelta is applyDelta.
var ApplyDelta = applyDelta
