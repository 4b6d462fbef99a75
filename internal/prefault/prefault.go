// Package prefault gets large memory from the kernel at once, instead of page by page.
package prefault

import "runtime"

// Heap makes the Go heap have n bytes in a row, ready to be allocated, whose pages are
// there already. That is for an algorithm that allocates them all at once and reads each page
// before it writes it, as Argon2id does: then the kernel interrupts it twice a page,
// 32,768 times for 64 MiB, and that takes as long as the algorithm itself.
//
// It is a hint: the next allocation of n bytes probably gets them. It runs a garbage
// collection, so it is for the start of a program, when the heap is small. Where the
// kernel can't do it, nothing happens.
func Heap(n int) {
	if n > 0 && populate(make([]byte, n)) == nil {
		runtime.GC() // the bytes are garbage now, and keep their pages
	}
}
