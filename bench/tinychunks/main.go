// Tinychunks makes a repository that cuts contents into the smallest chunks there
// are, so that ten million of them fit on a disk and can be made in minutes:
//
//	CAIRN_PASSWORD=... tinychunks DIRECTORY
//
// Nothing else about it is special, but nobody should want one: cairn init does
// not offer it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "tinychunks: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	password := os.Getenv("CAIRN_PASSWORD")
	if len(args) != 1 || password == "" {
		return errors.New("one directory is needed, and CAIRN_PASSWORD")
	}
	storage, err := local.Create(args[0])
	if err != nil {
		return err
	}
	r, err := repo.Init(ctx, repo.Options{Storage: storage}, repo.Params{
		Chunker: chunk.Params{Algorithm: chunk.FastCDC, Min: chunk.MinLimit, Avg: 2 * chunk.MinLimit, Max: 4 * chunk.MinLimit},
		Lock:    seal.Passphrase{Text: []byte(password)},
	})
	if err != nil {
		return err
	}
	return r.Close()
}
