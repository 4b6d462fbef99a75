// Package snapshot is the format of snapshots: a manifest that says what was
// saved, when and by whom, and a tree that maps every path to an entry.
//
// The tree is a content-defined search tree, also called a prolly tree (after
// Noms: https://github.com/attic-labs/noms/blob/master/doc/intro.md#prolly-trees-probabilistic-b-trees):
// the sorted entries are cut into nodes where a keyed hash of an entry's key
// says so, and the nodes' first keys are cut in the same way, level by level.
// The same entries make the same nodes whatever was there before, so that
// snapshots share all nodes of ranges that did not change, and a comparison
// reads only what differs.
//
//   - Entry and Key are the content, Builder makes a tree of entries, Tree and
//     Cursor read it, Diff compares two, Visit shows what a tree consists of.
//   - Leaf, Inner and ListNode are the encodings of nodes.
//   - A file with many chunks has them in a tree of its own: ListBuilder and
//     ListReader.
//   - Manifest has the two parts of a manifest, Open and Body.
//
// The package works on bytes and knows no storage: nodes go to a Sink and come
// from a NodeSource. Layouts are in docs/format.md, sections 9 and 10.
package snapshot
