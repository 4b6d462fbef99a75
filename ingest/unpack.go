package ingest

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is how much of a zstd frame must be kept at most to go on with it: what
// zstd(1) takes without being asked to.
const maxWindow = 128 << 20

// packed are the forms that a tar comes in, by what they begin with.
var packed = []struct {
	magic, name string
	unpack      func(io.Reader) (io.Reader, error) // nil: command does it
	command     string
}{
	{magic: "\x1f\x8b", name: "gzip", unpack: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{magic: "\x28\xb5\x2f\xfd", name: "zstd", unpack: unzstd},
	{magic: "\x2a\x4d\x18", name: "zstd", unpack: unzstd}, // behind a first byte of 0x50 to 0x5f: of pzstd
	{magic: "BZh", name: "bzip2", unpack: func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{magic: "\xfd7zXZ\x00", name: "xz", command: "xz -dc"},
	{magic: "\x5d\x00\x00", name: "lzma", command: "xz -dc"},
	{magic: "LZIP", name: "lzip", command: "lzip -dc"},
	{magic: "\x04\x22\x4d\x18", name: "lz4", command: "lz4 -dc"},
	{magic: "\x89LZO", name: "lzop", command: "lzop -dc"},
	{magic: "\x1f\x9d", name: "compress", command: "zcat"},
}

func unzstd(r io.Reader) (io.Reader, error) {
	// Without goroutines of its own, so that it need not be closed.
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// unpacker reads a stream, and decompresses it if its first bytes say so. Names say
// nothing. It begins to read when it is read.
type unpacker struct {
	in  io.Reader
	out io.Reader
}

func (u *unpacker) Read(p []byte) (int, error) {
	if u.out == nil {
		if err := u.begin(); err != nil {
			return 0, err
		}
	}
	return u.out.Read(p)
}

func (u *unpacker) begin() error {
	in := bufio.NewReaderSize(u.in, 64<<10)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return err
	}
	u.out = in
	for _, f := range packed {
		start := head
		if f.magic[0] == 0x2a && len(head) > 0 && head[0]&0xf0 == 0x50 {
			start = head[1:]
		}
		if !bytes.HasPrefix(start, []byte(f.magic)) {
			continue
		}
		if f.unpack == nil {
			return fmt.Errorf("is compressed with %s, which cairn does not read; give it unpacked: %s FILE | cairn snapshot tar:-", f.name, f.command)
		}
		out, err := f.unpack(in)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", f.name, err)
		}
		u.out = &named{out, f.name}
		return nil
	}
	return nil
}

// named says in its errors which compression they are of.
type named struct {
	io.Reader
	name string
}

func (n *named) Read(p []byte) (int, error) {
	m, err := n.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("unpack %s: %w", n.name, err)
	}
	return m, err
}
