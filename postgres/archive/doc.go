// Package archive reads and writes the archives of pg_dump: the custom format (-Fc)
// and the table of contents of the directory format (-Fd), versions 1.12 to 1.16,
// as pg_dump of PostgreSQL 9.0 to 18 writes them. docs/postgres-archive.md is the
// specification.
//
// An archive is a header, a table of contents ([TOC]) with the SQL of every object, and
// in the custom format a block of data behind it for each table and each
// group of large objects. [ReadTOC] and [Data] read one as a stream; [TOC.Append] gives
// the same bytes again. [NewWriter] writes one, also as a stream, with the
// offsets of the blocks in the table of contents: pg_restore then reads the file with
// many processes.
//
//	r := bufio.NewReaderSize(pipe, 1<<20)
//	toc, err := archive.ReadTOC(r)
//	data := archive.NewData(r, toc)
//	for {
//		item, err := data.Next() // io.EOF: all is there
//		io.Copy(dst, data)
//	}
//
// Contents are uncompressed (pg_dump -Z0). The contents of a table are its rows
// as COPY writes them, without the [CopyEnd] that pg_dump puts behind them: [Data]
// demands and removes it, [Writer] adds it.
//
// The package knows bytes only: it starts no program and opens no file. Texts are what
// pg_dump wrote, in the encoding of the dump, which need not be UTF-8.
// Nothing here is safe for concurrent use, but a TOC may be read by many.
package archive
