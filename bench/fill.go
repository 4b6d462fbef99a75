package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// shardSize is how many snapshots at most are made in one copy of the empty repository: each new
// one reads all that are there, so many at once would take for ever.
const shardSize = 50

// contents is what the snapshot k is of: a little that changes a little each time.
func contents(k int) string {
	return strings.Repeat("what stays as it is, from one snapshot to the next\n", 40) + fmt.Sprintf("snapshot %d\n", k)
}

// fillCairn makes n snapshots by running the program n times: in copies of one empty
// repository, of which all objects are then put into one. Nothing is replaced by that,
// as objects have names that never recur; it is what as many machines would have
// left that knew nothing of one another. The last snapshot is made there, and links
// to what all of them did.
func fillCairn(ctx context.Context, t tool, p places, scratch string, n int) error {
	if _, err := t.output(ctx, p, t.init(p)); err != nil {
		return err
	}
	// A passphrase takes a tenth of a second each time, this does not.
	identity := filepath.Join(p.private, "identity")
	recipient, err := t.output(ctx, p, []string{"key", "identity", identity})
	if err != nil {
		return err
	}
	if _, err := t.output(ctx, p, []string{"key", "add", "--recipient", strings.TrimSpace(string(recipient)), "--label", "filling"}); err != nil {
		return err
	}
	snapshot := func(p places, k int) error {
		cmd := t.command(ctx, p, []string{"snapshot", "-q", "-", "--host", fillHost(k), "--time", fillTime(k, n).Format(time.RFC3339)})
		cmd.Stdin = strings.NewReader(contents(k))
		cmd.Env = append(slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "CAIRN_PASSWORD=") }), "CAIRN_IDENTITY_FILE="+identity)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("snapshot %d: %w\n%s", k, err, lastLines(string(out), 20))
		}
		return nil
	}
	var merging sync.Mutex
	shard := func(from, to int) error {
		dir := filepath.Join(scratch, fmt.Sprint(from))
		q := places{repo: filepath.Join(dir, "repo"), private: filepath.Join(dir, "private"), target: dir}
		defer removeAll(dir)
		if err := os.MkdirAll(q.private, 0o700); err != nil {
			return err
		}
		if err := os.CopyFS(q.repo, os.DirFS(p.repo)); err != nil {
			return err
		}
		for k := from; k < to; k++ {
			if err := snapshot(q, k); err != nil {
				return err
			}
		}
		merging.Lock()
		defer merging.Unlock()
		return merge(q.repo, filepath.Join(scratch, "merged"))
	}
	if err := inShards(n-1, shard); err != nil {
		return err
	}
	if err := merge(filepath.Join(scratch, "merged"), p.repo); err != nil {
		return err
	}
	return snapshot(p, n-1)
}

// inShards calls shard for the ranges of n that make it up, as many at once as there
// are cores.
func inShards(n int, shard func(from, to int) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	slots := make(chan struct{}, runtime.NumCPU())
	size := min(shardSize, n/4+1)
	for from := 0; from < n; from += size {
		slots <- struct{}{}
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := shard(from, min(from+size, n)); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

// merge copies the files of one repository that another one lacks.
func merge(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		name := filepath.Join(to, rel)
		if _, err := os.Lstat(name); err == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		return copyFile(path, name)
	})
}

// resticSamples is how many snapshots restic makes itself.
const resticSamples = 6

// fillRestic gives a repository n snapshots: a few that restic makes itself, and copies
// of them with other times and hosts, sealed as it seals them. Making each with the
// program would take hours, as it derives a key for half a second each time; forget
// looks at no more than these objects.
func fillRestic(ctx context.Context, t tool, p places, _ string, n int) error {
	if _, err := t.output(ctx, p, t.init(p)); err != nil {
		return err
	}
	own := min(n, resticSamples)
	for k := range own {
		cmd := t.command(ctx, p, []string{"backup", "-q", "--stdin", "--host", fillHost(k), "--time", fillTime(k, n).Local().Format(time.DateTime)})
		cmd.Stdin = strings.NewReader(contents(k))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("snapshot %d: %w\n%s", k, err, lastLines(string(out), 20))
		}
	}
	out, err := t.output(ctx, p, t.keeping.list(p))
	if err != nil {
		return err
	}
	var models []map[string]any
	if err := json.Unmarshal(out, &models); err != nil || len(models) != own {
		return fmt.Errorf("%d snapshots are listed, not %d (%v)", len(models), own, err)
	}
	if out, err = t.output(ctx, p, []string{"cat", "masterkey"}); err != nil {
		return err
	}
	var key resticKey
	if err := json.Unmarshal(out, &key); err != nil {
		return err
	}
	for k := own; k < n; k++ {
		m := models[k%own]
		delete(m, "id") // of the listing, not of the object
		delete(m, "short_id")
		m["time"], m["hostname"] = fillTime(k, n), fillHost(k)
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		sealed, err := key.seal(text)
		if err != nil {
			return err
		}
		id := sha256.Sum256(sealed)
		if err := os.WriteFile(filepath.Join(p.repo, "snapshots", hex.EncodeToString(id[:])), sealed, 0o400); err != nil {
			return err
		}
	}
	return nil
}

// A resticKey is a master key as restic prints it.
type resticKey struct {
	MAC struct {
		K []byte `json:"k"`
		R []byte `json:"r"`
	} `json:"mac"`
	Encrypt []byte `json:"encrypt"`
}

// seal encrypts an object as restic does, with AES-256 in counter mode, and signs it with
// Poly1305-AES: https://github.com/restic/restic/blob/master/doc/design.rst. That
// restic can read it shows that it is right. The initialization vector, in restic random,
// follows from the text: what a benchmark keeps is no secret.
func (k resticKey) seal(text []byte) ([]byte, error) {
	hash := sha256.Sum256(text)
	iv := hash[:aes.BlockSize]
	block, err := aes.NewCipher(k.Encrypt)
	if err != nil {
		return nil, err
	}
	sealed := bytes.Clone(text)
	cipher.NewCTR(block, iv).XORKeyStream(sealed, sealed)

	if block, err = aes.NewCipher(k.MAC.K); err != nil {
		return nil, err
	}
	pad := make([]byte, aes.BlockSize)
	block.Encrypt(pad, iv)
	return slices.Concat(iv, sealed, poly1305(k.MAC.R, pad, sealed)), nil
}

// poly1305 returns the code of a message under the key (r, pad). It is slow, which
// is no matter here.
func poly1305(r, pad, message []byte) []byte {
	littleEndian := func(p []byte) *big.Int {
		p = bytes.Clone(p)
		slices.Reverse(p)
		return new(big.Int).SetBytes(p)
	}
	r = bytes.Clone(r)
	for _, i := range []int{3, 7, 11, 15} {
		r[i] &= 15
	}
	for _, i := range []int{4, 8, 12} {
		r[i] &= 252
	}
	one := big.NewInt(1)
	prime := new(big.Int).Sub(new(big.Int).Lsh(one, 130), big.NewInt(5))
	factor, sum := littleEndian(r), new(big.Int)
	for part := range slices.Chunk(message, 16) {
		sum.Add(sum, littleEndian(append(bytes.Clone(part), 1)))
		sum.Mul(sum, factor).Mod(sum, prime)
	}
	sum.Add(sum, littleEndian(pad))
	sum.Mod(sum, new(big.Int).Lsh(one, 128))
	code := sum.FillBytes(make([]byte, 16))
	slices.Reverse(code)
	return code
}
