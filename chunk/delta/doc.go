// Package delta writes a chunk as its differences to one or two similar
// chunks, its bases, and finds out which chunks are similar.
//
// An Encoder makes a delta: instructions to copy from the bases and to insert
// what they lack. Decode carries it out. The format is in docs/format.md,
// section 6. A delta is not compressed yet: its instructions are grouped so
// that a general compressor does well on them.
//
// A Sketcher makes the Sketch of a chunk, a few numbers of which two similar
// chunks probably share one.
package delta
