// Package model has the protocol of writers and prune (docs/protocol.md) as models
// that SPIN checks: it tries every order in which the operations of several processes
// can happen. Each process may stop anywhere for ever, so crashes and stalls are among
// them. prune.pml is about who sees whom, delta.pml about what to keep where chunks
// are deltas of others. The test runs them as they are, which must hold, and with each
// step left out, which must not.
//
// To see how something is lost without a step, here without P6's second mark:
//
//	spin -a -DWRITERS=1 -DPRUNES=2 prune.pml
//	gcc -O2 -DBFS -DSAFETY -DNOREDUCE -o pan pan.c
//	OMIT=9 ./pan -E
//	OMIT=9 spin -t -p -DWRITERS=1 -DPRUNES=2 prune.pml
//
// They are models of the protocol and not of the code. That the code does what the
// protocol says is tested in package repo.
package model
