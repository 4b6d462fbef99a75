// Package chunk names pieces of plaintext and decides where one ends and the
// next begins.
//
// A Hasher gives a piece its ID, a keyed BLAKE3 of its bytes. A Splitter
// finds the places at which a long input is cut by the input's own content,
// so that an insertion moves the bytes behind it and leaves most of the
// chunks as they were. A Stream puts a Splitter to work on an io.Reader. The
// package does no I/O of its own, and all that it computes is a function of
// its arguments: the same key, parameters and bytes give the same chunks and
// IDs on every machine, for as long as the repository lives. testdata/vectors
// holds them to that.
//
// # Which splitter
//
// The places of the cuts, or the chunk lengths that give them away, are a
// fingerprint of known files. Therefore each splitter draws its constants
// from a secret of the repository. How much that helps differs:
//
//   - FastCDC is the fastest. Its secret table stops an observer who knows
//     none of the plaintext. It does not stop one who does: the hash is
//     linear in the table, so each cut that is seen beside its plaintext is a
//     set of equations in it. In ways like this one, Alexeev, Percival and
//     Zhang (eprint 2025/532) and Truong, Merz, Scarlata, Günther and
//     Paterson (eprint 2025/558) defeat the secrets of Tarsnap, Borg, Restic
//     and others.
//   - FastCDCPRF cuts by a keyed non-linear function of the same kind of
//     hash, so that a cut is no linear equation in the table. It runs at less
//     than half of the speed. It is a heuristic and no proven pseudorandom
//     function, and one leak of the hash beneath remains: windows that differ
//     only in their oldest byte have the same hash with probability 1/2. So
//     who may choose plaintexts, and sees chunk lengths, still learns which
//     entries of the table agree in their low bits.
//   - Rabin is the splitter of restic, for those who want cuts of long
//     standing. It is the slowest, its only secret is one polynomial of
//     degree 53, and the same papers apply to it.
//
// No splitter hides that two inputs have the same chunk lengths. What keeps
// lengths from an observer in the first place is how chunks are packed; the
// splitter's secret is the second line behind that.
package chunk
