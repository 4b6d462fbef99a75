// Package index answers where a chunk is stored: in which pack, at which
// offset, on whose word.
//
// Two things carry that knowledge. A [Segment] is an object in the repository:
// the entries of some packs, sorted, sealed and signed (docs/format.md,
// section 8). A [Local] is a file on each machine that absorbs segments, so
// that a look-up costs microseconds and memory does not grow with the
// repository. Losing the file costs a re-read of the segments; losing the
// segments costs a read of the pack directories. Nothing else depends on either.
//
// Both are hints. A segment can arrive after its packs were deleted, so an
// entry counts only while its pack is in a listing that the caller took; and a
// signature says who spoke, not that it is true. Places therefore carry their
// signer, and whom to believe is the caller's to decide.
//
// # The local file
//
// The file is a bbolt database, but bbolt holds few and large values. Entries
// are in sorted runs, cut into blocks of at most 64 KiB; absorbing appends a
// run, and runs are merged (see policy.go). A merge moves a range of keys in each
// transaction: before and after it, each entry is in exactly one run. A filter
// for each run tells at once of most chunks that it does not have them. Look-ups share what they
// find out about where blocks and sources lie (see directory), as long as the file is open.
//
//	state       one value: whose index this is, counters, the list of runs
//	blocks      run, first record  ->  records
//	filters     run, part          ->  lines of bits
//	sources     ordinal            ->  pack, and the segment that names it
//	segments    number             ->  ID, signer, first ordinal, entries left
//	names       segment ID         ->  number, how many others supersede it
//	packs       pack ID, ordinal   ->  nothing
//	supersedes  number, segment ID ->  nothing
//
// A record names its pack by ordinal. There is one ordinal for each pack of each
// segment, so when a segment drops out, it is marked dead in one value, its
// entries vanish from all answers, and merges take them out of the runs.
//
// Nothing in the file is believed unseen. The tree of pages is checked whenever
// somebody has written to it (see checkFile), every value has a checksum over
// itself and its key, and a block says where the next one starts, so that "not
// there" is proven as well as "there". Memory faults of the mapping and panics of
// bbolt count as damage too. A damaged file is emptied, and ErrLost tells
// everyone who relied on it.
//
// Commits are synced. Doing without would make absorbing quicker, but after a
// power cut old and new pages could stand side by side, each sound in itself,
// and a value that is merely old passes its checksum.
package index
