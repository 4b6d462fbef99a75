// Package seal has what the stored objects have in common: the header that
// every object begins with, sections that are encrypted with a key of the
// repository, signatures, public-key sealing, the derivation of keys, and the
// slots that keep a repository's secrets under a passphrase or for a
// recipient.
//
// It works on bytes and touches no storage. Random bytes come from an
// io.Reader that the caller passes (crypto/rand.Reader outside of tests). The
// exception is HPKE, whose implementation in the standard library takes its
// randomness from the system.
//
// The byte layouts are in docs/format.md, sections 3 and 4.
package seal
