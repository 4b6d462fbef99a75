// Package snapshot has the formats of snapshots: the manifest, and the search
// tree that maps paths to entries.
//
// A snapshot is one sorted map from path to entry, kept as a prolly tree: a
// B-tree whose nodes end where a keyed hash of the key says so, not where
// insertion happened to split them. Equal ranges of two snapshots are then
// equal nodes, stored once, and a difference is found by reading only what
// differs. (The idea is that of Noms, https://github.com/attic-labs/noms/blob/master/doc/intro.md.)
//
// The package works on bytes. Nodes come and go through NodeSource and Sink, so that it
// knows neither packs nor storage. Layouts are in docs/format.md, sections 9
// and 10.
package snapshot
