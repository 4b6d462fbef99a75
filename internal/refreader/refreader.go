// Package refreader reads a cairn repository, slowly and strictly.
//
// It is written from docs/format.md alone and shares no code with the engine: that both read the same
// files out of a repository shows that the document says all that a reader needs. Read it beside the
// document; each file names the sections that it follows:
//
//	wire.go      1      integers, hashes, ciphers
//	object.go    3      header, section, signature
//	keys.go      4      slots, bundles, key derivation
//	config.go    5      config, and who may write what
//	pack.go      6, 7   chunks and packs
//	locate.go    8      index segments; where chunks are
//	manifest.go  9      snapshots
//	node.go      10     nodes of the entry tree and of list trees
//	walk.go      10     walking a tree, reading a file
//	lease.go     11     leases, tombstones, condemned
//
// Everything read is verified: hashes, signatures and the right to sign, every rule of canonical form, and
// whatever the format says twice. One object that breaks a rule fails the whole, where the engine
// would go on without it. The repository must be at rest: nobody may write to it meanwhile.
package refreader

import (
	"crypto/hpke"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// Errors of Open that are about the passphrase, not about the repository.
var (
	ErrPassphrase = errors.New("no key slot opens with this passphrase")
	ErrWriteOnly  = errors.New("the key slot of this passphrase is write-only: reading needs one with full access")
)

var errOtherRepository = errors.New("belongs to another repository")

// A Repo is an open repository. It is not safe for concurrent use.
type Repo struct {
	dir       string
	config    config
	private   hpke.PrivateKey // of the repository
	zstd      *zstd.Decoder
	keys      map[realm]*realmKeys
	condemned condemned
	listed    map[packRef]uint64 // size of each pack that exists
	packs     map[packRef]*pack  // those verified so far
	homes     map[ID][]location

	recent struct { // the last chunk read: neighbouring small files share one
		id    ID
		kind  uint8
		plain []byte
	}
}

// Open opens the repository in a local directory with the passphrase of a slot that has full access. It verifies
// config, key slots, condemned and all index segments; chunks will be found through the segments.
// Errors other than ErrPassphrase and ErrWriteOnly mean that the repository could not be read or is
// not as docs/format.md says.
func Open(dir string, passphrase []byte) (*Repo, error) {
	return open(dir, passphrase, (*Repo).locateBySegments)
}

// OpenDirectories is Open as though all index segments were lost: it verifies every pack, and chunks
// will be found through the packs' directories.
func OpenDirectories(dir string, passphrase []byte) (*Repo, error) {
	return open(dir, passphrase, (*Repo).locateByDirectories)
}

func open(dir string, passphrase []byte, locate func(*Repo) error) (*Repo, error) {
	r := &Repo{
		dir:    dir,
		keys:   make(map[realm]*realmKeys),
		listed: make(map[packRef]uint64),
		packs:  make(map[packRef]*pack),
		homes:  make(map[ID][]location),
	}
	var err error
	if r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunk)); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(r.path("config"))
	if err != nil {
		return nil, err
	}
	if r.config, err = parseConfig(b); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	for _, step := range []func() error{
		func() error { return r.unlock(passphrase) },
		r.loadCondemned,
		r.listPacks,
		func() error { return locate(r) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// ID returns the repository ID, which the passphrase's slot vouches for: the two keys that it hashes are
// those whose private halves the slot holds.
func (r *Repo) ID() ID { return r.config.repo }

// path is the file of an object.
func (r *Repo) path(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

// load reads a signed object, and verifies its repository, its ID where that is its name, and that its
// signer may write it (for an E, only that someone signed it).
func (r *Repo) load(name string, kind byte) (signed, error) {
	b, err := os.ReadFile(r.path(name))
	if err != nil {
		return signed{}, err
	}
	o, err := r.parse(b, kind)
	if err == nil {
		if id, ok := parseID(path.Base(name)); ok && id != o.id {
			err = errors.New("contents do not have the hash that is the name")
		}
	}
	if err != nil {
		return signed{}, fmt.Errorf("%s: %w", name, err)
	}
	return o, nil
}

func (r *Repo) parse(b []byte, kind byte) (signed, error) {
	o, err := parseSigned(b, kind)
	if err != nil {
		return signed{}, err
	}
	if o.repo != r.config.repo {
		return signed{}, errOtherRepository
	}
	if kind == kindEnd {
		return o, nil
	}
	return o, r.config.authorize(o)
}

// list returns the IDs that are names in a folder of the repository. Other names are no objects: what
// a storage keeps beside them is its own affair.
func (r *Repo) list(folder string) ([]ID, error) {
	files, err := os.ReadDir(r.path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []ID
	for _, f := range files {
		if id, ok := parseID(f.Name()); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// listPacks fills r.listed with data/<aa>/<id> and meta/<aa>/<id>.
func (r *Repo) listPacks() error {
	for folder, kind := range map[string]byte{"data": kindData, "meta": kindMeta} {
		parents, err := os.ReadDir(r.path(folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, parent := range parents {
			if len(parent.Name()) != 2 || !parent.IsDir() {
				continue
			}
			ids, err := r.list(folder + "/" + parent.Name())
			if err != nil {
				return err
			}
			for _, id := range ids {
				if id.String()[:2] != parent.Name() {
					return fmt.Errorf("%s/%s/%v: wrong folder", folder, parent.Name(), id)
				}
				ref := packRef{kind, id}
				info, err := os.Stat(r.path(ref.String()))
				if err != nil {
					return err
				}
				r.listed[ref] = uint64(info.Size())
			}
		}
	}
	return nil
}
