package main

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/backend/open"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make a repository",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "chunker", Value: "fastcdc", Usage: "`ALGORITHM` that cuts contents: fastcdc, fastcdc-prf (slower, its cuts tell less) or rabin"},
			&cli.StringFlag{Name: "chunk-size", Value: "1MiB", Usage: "`SIZE` of chunks on average, from 16KiB to 4MiB"},
			&cli.StringFlag{Name: "compression", Value: "fastest", Usage: "`LEVEL` of zstd: fastest, default or better"},
			&cli.StringFlag{Name: "recipient", Usage: "make the first key for `RECIPIENT` instead of a passphrase"},
		},
		Action: p.init,
	}
}

func (p *program) init(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	params := repo.Params{Chunker: chunk.DefaultParams(), Label: "first key"}
	var err error
	if params.Chunker.Algorithm, err = chunk.ParseAlgorithm(c.String("chunker")); err != nil {
		return usagef("--chunker: %v", err)
	}
	if params.Chunker, err = chunkerParams(params.Chunker.Algorithm, c.String("chunk-size")); err != nil {
		return usagef("--chunk-size: %v", err)
	}
	if params.Compression, err = pack.ParseCompression(c.String("compression")); err != nil {
		return usagef("--compression: %v", err)
	}
	if params.Lock, err = p.newLock(c, "password-file"); err != nil {
		return err
	}
	b, err := p.storage(c, open.Create)
	if err != nil {
		return err
	}
	r, err := repo.Init(c.Context, repo.Options{Storage: b, Cache: cacheDir(c), Observer: p.observer()}, params)
	if err != nil {
		return cacheProblem(err, cacheDir(c))
	}
	defer r.Close()
	if p.json != nil {
		p.json.Write("summary", map[string]any{"id": r.ID().String(), "repository": b.String()})
		return nil
	}
	p.printf("made repository %s\n  at %s\n", r.ID(), termui.Clean(b.String()))
	if !p.quiet {
		fmt.Fprintf(p.Stderr, `
Without a key nothing in it can ever be read again, by anybody. Print a recovery
key now and keep it where this machine's fate can't reach it:

  cairn key export --repo %s

`, shellWord(b.String()))
	}
	return nil
}

// minChunkSize is the least average size that a repository is made with, in bytes: with
// smaller chunks the index would be a large part of it.
const minChunkSize = 16 << 10

// chunkerParams are the parameters for an average size as users write it.
func chunkerParams(a chunk.Algorithm, size string) (chunk.Params, error) {
	avg, err := termui.ParseSize(size)
	if err != nil {
		return chunk.Params{}, err
	}
	if avg < minChunkSize || avg > pack.MaxChunk/4 {
		return chunk.Params{}, fmt.Errorf("chunks of %s on average: choose from %s to %s", size, sizeOption(minChunkSize), sizeOption(pack.MaxChunk/4))
	}
	params := chunk.ParamsOf(a, int(avg))
	return params, params.Validate()
}

// sizeOption is a size as an option that means exactly that.
func sizeOption(n int) string {
	switch {
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return strconv.Itoa(n)
}
