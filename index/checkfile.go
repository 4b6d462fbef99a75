package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The part of bbolt's file format that checkFile knows (bbolt,
// internal/common/{page,meta,bucket}.go). Integers have the machine's byte order.
const (
	pageSize       = 4096 // we make files of this page size on all machines
	pageHeader     = 16   // id 8, flags 2, count 2, overflow 4
	pageElement    = 16   // branch: pos 4, ksize 4, page 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	metaSize       = 64   // magic 4, version 4, page size 4, flags 4, root 16, freelist 8, pages 8, txid 8, sum 8
	bucketHeader   = 16   // root page 8, sequence 8
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	branchPage     = 0x01
	leafPage       = 0x02
	metaPage       = 0x04
	freelistPage   = 0x10
	bucketElement  = 0x01
	maxDepth       = 32
	longFreelist   = 0xffff // the count is in the first element
	maxFreeListed  = 1 << 40
	firstDataPage  = 2
	leastFileBytes = 4 * pageSize
	firstBytes     = 1280 // of a page, with the elements of most
)

// checkFile checks the page tree of a bbolt file: every page that the current
// meta page makes reachable is of the right type, its elements lie within it, it
// is reached once, and it is not free; and every page is either reachable or free.
//
// bbolt itself trusts its file: a flipped bit in a page number can send it round
// in circles until the stack overflows, which no recover catches, or to a page
// that is free, where an older version of the data still stands. What keys and
// values say is not looked at; they have checksums.
//
// It reads a few bytes of each page with pread, so that no memory fault can
// happen, and needs one bit of memory for each page of 4 KiB.
func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < leastFileBytes {
		return fmt.Errorf("%w: %d bytes", errDamaged, info.Size())
	}
	m, err := readMeta(f)
	if err != nil {
		return err
	}
	if m.pages < firstDataPage || m.pages > uint64(info.Size())/pageSize {
		return fmt.Errorf("%w: %d pages in %d bytes", errDamaged, m.pages, info.Size())
	}
	c := &fileCheck{f: f, pages: m.pages, seen: make([]uint64, m.pages/64+1)}
	for p := range uint64(firstDataPage) {
		c.seen[0] |= 1 << p
	}
	if err := c.tree(m.root, 0); err != nil {
		return err
	}
	if err := c.freelist(m.freelist); err != nil {
		return err
	}
	for p := range c.pages {
		if c.seen[p/64]&(1<<(p%64)) == 0 {
			return fmt.Errorf("%w: page %d is neither used nor free", errDamaged, p)
		}
	}
	return nil
}

type boltMeta struct{ root, freelist, pages, txid uint64 }

// readMeta returns the meta page that bbolt will choose: the newer sound one.
func readMeta(r io.ReaderAt) (boltMeta, error) {
	var best boltMeta
	found := false
	for i := range int64(2) {
		var p [pageHeader + metaSize]byte
		if _, err := r.ReadAt(p[:], i*pageSize); err != nil {
			return best, readError(err)
		}
		b := p[pageHeader:]
		h := fnv.New64a()
		h.Write(b[:metaSize-8])
		if native.Uint32(b) != boltMagic || native.Uint32(b[4:]) != boltVersion || native.Uint32(b[8:]) != pageSize ||
			native.Uint64(b[56:]) != h.Sum64() {
			continue
		}
		m := boltMeta{root: native.Uint64(b[16:]), freelist: native.Uint64(b[32:]), pages: native.Uint64(b[40:]), txid: native.Uint64(b[48:])}
		if !found || m.txid > best.txid {
			best, found = m, true
		}
	}
	if !found {
		return best, fmt.Errorf("%w: no sound meta page", errDamaged)
	}
	return best, nil
}

var native = binary.NativeEndian

// readError makes a file that ends early count as damaged.
func readError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: file ends early", errDamaged)
	}
	return err
}

type fileCheck struct {
	f     *os.File
	pages uint64
	seen  []uint64             // a bit for each page
	first [maxDepth + 2][]byte // of the page at each depth, its first bytes
}

// visit marks the n pages from p.
func (c *fileCheck) visit(p, n uint64) error {
	if p < firstDataPage || p >= c.pages || n > c.pages-p {
		return fmt.Errorf("%w: page %d is out of range", errDamaged, p)
	}
	for ; n > 0; p, n = p+1, n-1 {
		if c.seen[p/64]&(1<<(p%64)) != 0 {
			return fmt.Errorf("%w: page %d is used twice", errDamaged, p)
		}
		c.seen[p/64] |= 1 << (p % 64)
	}
	return nil
}

func (c *fileCheck) read(p []byte, at uint64) error {
	_, err := c.f.ReadAt(p, int64(at))
	if err != nil {
		return readError(err)
	}
	return nil
}

// page reads and checks a page's header and marks its pages. It returns the
// flags, the number of elements and the page's size in bytes.
func (c *fileCheck) page(p uint64, first []byte) (flags uint16, count int, size uint64, err error) {
	if p >= c.pages {
		return 0, 0, 0, fmt.Errorf("%w: page %d is out of range", errDamaged, p)
	}
	if err := c.read(first, p*pageSize); err != nil {
		return 0, 0, 0, err
	}
	if native.Uint64(first) != p {
		return 0, 0, 0, fmt.Errorf("%w: page %d says that it is another", errDamaged, p)
	}
	n := uint64(native.Uint32(first[12:])) + 1
	return native.Uint16(first[8:]), int(native.Uint16(first[10:])), n * pageSize, c.visit(p, n)
}

// tree checks a page of a bucket and all below it.
func (c *fileCheck) tree(p uint64, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: page %d at depth %d", errDamaged, p, depth)
	}
	// One read gets the elements of most pages, too.
	if c.first[depth] == nil {
		c.first[depth] = make([]byte, firstBytes)
	}
	first := c.first[depth]
	flags, count, size, err := c.page(p, first)
	if err != nil {
		return err
	}
	if flags != branchPage && flags != leafPage || pageHeader+uint64(count)*pageElement > size ||
		flags == branchPage && count == 0 {
		return fmt.Errorf("%w: page %d of type %#x has %d elements at depth %d", errDamaged, p, flags, count, depth)
	}
	var elements []byte
	if end := pageHeader + count*pageElement; end <= firstBytes {
		elements = first[pageHeader:end]
	} else {
		elements = make([]byte, count*pageElement)
		if err := c.read(elements, p*pageSize+pageHeader); err != nil {
			return err
		}
	}
	if flags == leafPage {
		return c.leaf(io.NewSectionReader(c.f, int64(p*pageSize), int64(size)), elements, depth)
	}
	for at := 0; at < len(elements); at += pageElement {
		e := elements[at : at+pageElement]
		if pageHeader+uint64(at)+uint64(native.Uint32(e))+uint64(native.Uint32(e[4:])) > size {
			return fmt.Errorf("%w: page %d has an element outside of it", errDamaged, p)
		}
		if err := c.tree(native.Uint64(e[8:]), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks the elements of a leaf page, or of a small bucket that stands in
// its parent's value, and the buckets among them.
func (c *fileCheck) leaf(page *io.SectionReader, elements []byte, depth int) error {
	for at := 0; at < len(elements); at += pageElement {
		e := elements[at : at+pageElement]
		start := pageHeader + int64(at) + int64(native.Uint32(e[4:])) + int64(native.Uint32(e[8:]))
		length := int64(native.Uint32(e[12:]))
		if start+length > page.Size() {
			return fmt.Errorf("%w: page has an element outside of it", errDamaged)
		}
		if native.Uint32(e) == 0 {
			continue
		}
		if native.Uint32(e) != bucketElement || length < bucketHeader || depth > maxDepth {
			return fmt.Errorf("%w: element is no bucket", errDamaged)
		}
		value := make([]byte, min(length, pageSize))
		if _, err := page.ReadAt(value, start); err != nil {
			return readError(err)
		}
		if root := native.Uint64(value); root != 0 {
			if err := c.tree(root, depth+1); err != nil {
				return err
			}
			continue
		}
		if err := c.inline(value[bucketHeader:], depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *fileCheck) inline(p []byte, depth int) error {
	if len(p) < pageHeader || native.Uint64(p) != 0 || native.Uint16(p[8:]) != leafPage || native.Uint32(p[12:]) != 0 {
		return fmt.Errorf("%w: bucket is no page", errDamaged)
	}
	n := int(native.Uint16(p[10:])) * pageElement
	if pageHeader+n > len(p) {
		return fmt.Errorf("%w: bucket has an element outside of it", errDamaged)
	}
	return c.leaf(io.NewSectionReader(bytes.NewReader(p), 0, int64(len(p))), p[pageHeader:pageHeader+n], depth)
}

// freelist checks that the pages that bbolt will overwrite are used by nothing.
func (c *fileCheck) freelist(p uint64) error {
	var header [pageHeader]byte
	flags, count, size, err := c.page(p, header[:])
	if err != nil {
		return err
	}
	at, n := p*pageSize+pageHeader, uint64(count)
	if n == longFreelist {
		var b [8]byte
		if err := c.read(b[:], at); err != nil {
			return err
		}
		at, n = at+8, min(native.Uint64(b[:]), maxFreeListed)
	}
	if flags != freelistPage || at+8*n > p*pageSize+size {
		return fmt.Errorf("%w: freelist of %d pages", errDamaged, n)
	}
	list := make([]byte, 8*n)
	if err := c.read(list, at); err != nil {
		return err
	}
	for ; len(list) > 0; list = list[8:] {
		if err := c.visit(native.Uint64(list), 1); err != nil {
			return err
		}
	}
	return nil
}
