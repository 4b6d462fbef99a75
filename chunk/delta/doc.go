// Package delta writes a chunk as its differences to one or two similar
// chunks, its bases, and finds out which chunks are similar.
//
// An Encoder makes a delta: instructions to copy from the bases and to insert
// what they lack. Decode carries it out. The format is in docs/format.md,
// section 6. A delta is not compressed yet; zstd finds what repeats in the
// instructions and literals. A Sketcher makes the Sketch of a chunk, a few
// numbers of which two similar chunks probably share one. The package does no
// I/O, and what it computes is a function of its arguments.
//
// # The search
//
// The bases are remembered at every 16th byte, and the target is looked up at
// each byte that no copy covers: that is few bytes, so most of the time goes
// into comparing words. A match is extended both ways. Behind a difference, the
// most likely place to go on is where the last copy would have come to, and a
// match of eight bytes is enough there, which is what a number that changed
// leaves of a row. But rows that look alike match there for some bytes too when
// a row is gone, one after the other. So if the match is short, the next 256
// bytes are looked up for a longer one. Bases are thus not scanned, and nothing
// depends on what the bytes mean.
//
// # Measurements
//
// pg_dump -Fc -Z0 of 266 MB (pgbench and two wider tables), 1 % of the rows
// updated at random, some added, VACUUM; cut into chunks of 1 MiB; each new chunk
// against the one or two old ones that share most with it; zstd at its fastest
// level behind it. Speeds are of CPU time on one core of a busy machine.
//
//	                     new chunks   zstd     delta, zstd   speed
//	dump, first change   255.6 MB     57.0 MB  1.31 MB       0.9 GB/s
//	dump, second change  255.7 MB     57.5 MB  0.80 MB       0.8 GB/s
//	tar of pg_basebackup 350.6 MB     74.4 MB  2.11 MB       0.5 GB/s
//	sources of k8s 1.31   26.2 MB      4.1 MB  0.07 MB       0.8 GB/s
//
// zstd's own --patch-from over the whole streams, at level 3, gives 1.08 MB for
// the first line and 2.12 MB for the third. Of the 1.31 MB, 0.81 MB are two
// chunks of new rows, which share nothing with an old chunk. Decoding runs at
// 1.5 GB/s.
//
// What else was tried, in MB for the first, second and third line, on a state with
// 1.30, 0.80 and 2.11:
//
//	a place every 32 bytes              1.33  0.93  2.52, slower: more copies
//	a place every 8 bytes               1.30  0.85  2.07, at half of the speed
//	a look of 64 bytes ahead            1.56  1.27  2.85, slower for the same reason
//	shortest match of 16 (at 32 bytes)  1.40  1.06  2.54
//	lengths, steps and literals apart   1.29  0.82  2.11
//	  and each compressed alone         1.29  0.79  2.09
//	steps from where the last copy
//	  would have come to                1.29  0.80  2.10
//
// The last three are no more than noise, so instructions simply follow one
// another, and decoding is one pass.
//
// # The sketch
//
// Of the samples of 220 chunks of the dump, 1 to 16 features were grouped. With
// three features a number and four numbers, all chunks that keep 90 % of their
// samples are found, and 9 of the 11 that keep more than half; a chunk agrees
// with 0.00 to 0.02 unrelated ones of the same tables. Two features a number
// find 10 of the 11, but agree with up to 0.3; features alone with up to 7; and
// eight features a number miss up to 8 % of the first. With 10 % of the rows changed
// three features find 89 %. Other text (sources) never agreed.
// TestSketchOfChangedRows and TestSketchOfNextDump repeat this on generated dumps.
//
// It runs at 2.0 to 2.4 GB/s of CPU time; rolling the hash alone, without looking
// at it, at 2.9.
package delta
