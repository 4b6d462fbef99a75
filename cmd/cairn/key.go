package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/backend/open"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

func (p *program) keyCommand() *cli.Command {
	newFile := &cli.StringFlag{Name: "new-password-file", Usage: "read the new passphrase from `FILE`"}
	yes := &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
	return &cli.Command{
		Name:  "key",
		Usage: "list, add and remove the keys of a repository",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the keys", Action: p.withRepo(p.keyList)},
			{Name: "add", Usage: "add a key", Action: p.withRepo(p.keyAdd), Flags: []cli.Flag{
				newFile,
				&cli.StringFlag{Name: "recipient", Usage: "make the key for `RECIPIENT` instead of a passphrase"},
				&cli.BoolFlag{Name: "write-only", Usage: "the key can make snapshots, but neither read nor remove anything"},
				&cli.StringFlag{Name: "label", Usage: "what the key is for, for people"},
			}},
			{Name: "remove", Usage: "remove a key", ArgsUsage: "ID", Action: p.withRepo(p.keyRemove), Flags: []cli.Flag{yes}},
			{Name: "passwd", Usage: "replace the key in use by one with another passphrase", Action: p.withRepo(p.keyPasswd), Flags: []cli.Flag{newFile}},
			{Name: "export", Usage: "add a recovery key and print it on a sheet to keep", Action: p.withRepo(p.keyExport)},
			{Name: "identity", Usage: "make an identity file and print its recipient", ArgsUsage: "FILE", Action: p.keyIdentity},
		},
		Action: func(c *cli.Context) error {
			return usagef("cairn key wants a command: list, add, remove, passwd, export or identity")
		},
	}
}

// withRepo opens the repository for a command.
func (p *program) withRepo(fn func(*cli.Context, *repo.Repository) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		r, err := p.open(c)
		if err != nil {
			return err
		}
		defer r.Close()
		return fn(c, r)
	}
}

func (p *program) keyList(c *cli.Context, r *repo.Repository) error {
	if err := noArguments(c); err != nil {
		return err
	}
	slots, err := r.Slots()
	if err != nil {
		return err
	}
	if p.json != nil {
		for _, s := range slots {
			p.json.Write("key", map[string]any{
				"id": s.ID.String(), "kind": s.Kind.String(), "access": s.Access.String(), "label": s.Label,
				"created": s.Created.Format(time.RFC3339), "signer": s.Signer.String(), "current": s.Current,
			})
		}
		p.json.Write("summary", map[string]any{"keys": len(slots)})
		return nil
	}
	t := table("ID", "Kind", "Access", "Created", "Label", "")
	for _, s := range slots {
		mark := ""
		if s.Current {
			mark = "in use now"
		}
		t.Row(s.ID.Short(), s.Kind.String(), s.Access.String(), termui.Time(s.Created), termui.Quote(s.Label), mark)
	}
	return p.print(t)
}

func (p *program) keyAdd(c *cli.Context, r *repo.Repository) error {
	if err := noArguments(c); err != nil {
		return err
	}
	n := repo.NewSlot{Access: seal.Full, Label: c.String("label")}
	if c.Bool("write-only") {
		n.Access = seal.WriteOnly
	}
	var err error
	if n.Lock, err = p.newLock(c, "new-password-file"); err != nil {
		return err
	}
	id, err := r.AddSlot(c.Context, n)
	if err != nil {
		return err
	}
	return p.keyAdded(id, n.Access)
}

func (p *program) keyAdded(id seal.SlotID, access seal.Access) error {
	if p.json != nil {
		p.json.Write("summary", map[string]any{"id": id.String(), "access": access.String()})
	}
	p.printf("added %s key %s\n", access, id.Short())
	return nil
}

// findKey returns the key whose ID begins with a word.
func findKey(r *repo.Repository, word string) (repo.SlotInfo, error) {
	slots, err := r.Slots()
	if err != nil {
		return repo.SlotInfo{}, err
	}
	fit := slices.DeleteFunc(slots, func(s repo.SlotInfo) bool { return !strings.HasPrefix(s.ID.String(), word) })
	switch {
	case len(word) < 4:
		return repo.SlotInfo{}, usagef("key %q: want at least four digits of an ID; cairn key list shows them", word)
	case len(fit) == 0:
		return repo.SlotInfo{}, usagef("there is no key %s; cairn key list shows them", word)
	case len(fit) > 1:
		return repo.SlotInfo{}, usagef("several keys begin with %s; give more digits", word)
	}
	return fit[0], nil
}

func (p *program) keyRemove(c *cli.Context, r *repo.Repository) error {
	word, err := argument(c, "ID")
	if err != nil {
		return err
	}
	s, err := findKey(r, word)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("Remove key %s (%s, %s access, label %s)?", s.ID.Short(), s.Kind, s.Access, termui.Quote(s.Label))
	if s.Current {
		question += " It is the one in use now."
	}
	if s.Access == seal.WriteOnly {
		question += " A new epoch begins: what is stored from now on is not deduplicated against what was stored before."
	}
	if err := p.confirm(c, question); err != nil {
		return err
	}
	if err := r.RemoveSlot(c.Context, s.ID); err != nil {
		return err
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{"removed": s.ID.String()})
	}
	p.printf("removed key %s\n", s.ID.Short())
	if s.Access == seal.Full && !p.quiet && p.json == nil {
		fmt.Fprintln(p.Stderr, "Whoever has a copy of this key and of the repository from before can still read that copy.")
	}
	return nil
}

func (p *program) keyPasswd(c *cli.Context, r *repo.Repository) error {
	if err := noArguments(c); err != nil {
		return err
	}
	slots, err := r.Slots()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(slots, func(s repo.SlotInfo) bool { return s.Current })
	if i < 0 || slots[i].Kind != seal.PassphraseSlot {
		return errors.New("the key in use is no passphrase; add another with cairn key add, then remove this one with cairn key remove")
	}
	lock, err := p.newLock(c, "new-password-file")
	if err != nil {
		return err
	}
	// First the new, then the old: a failure in between leaves two keys, not none.
	id, err := r.AddSlot(c.Context, repo.NewSlot{Lock: lock, Access: slots[i].Access, Label: slots[i].Label})
	if err != nil {
		return err
	}
	if err := r.RemoveSlot(c.Context, slots[i].ID); err != nil {
		return fmt.Errorf("the new passphrase was added, but the old one could not be removed: %w", err)
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{"id": id.String(), "access": slots[i].Access.String(), "removed": slots[i].ID.String()})
	}
	p.printf("the new passphrase is in force: key %s took the place of %s\n", id.Short(), slots[i].ID.Short())
	return nil
}

const sheet = `cairn recovery sheet                                          %s

This key opens the repository below and reads everything in it. Keep it on
paper, away from the machines that it is for. Nobody can make another one
without a key that still works.

  repository   %s
  ID           %s

  recovery key
%s

To restore with nothing but this sheet:

  1. install cairn (this is %s)
  2. write the recovery key into a file, say key.txt, in its lines as above
  3. cairn snapshots --repo %s --identity-file key.txt
  4. cairn restore ID --target DIR --repo %s --identity-file key.txt
     with the ID of a snapshot of step 3
`

func (p *program) keyExport(c *cli.Context, r *repo.Repository) error {
	if err := noArguments(c); err != nil {
		return err
	}
	key, err := seal.NewRecoveryKey(rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	id, err := r.AddSlot(c.Context, repo.NewSlot{Lock: key, Access: seal.Full, Label: "recovery sheet of " + now.Format(time.DateOnly)})
	if err != nil {
		return err
	}
	url := shellWord(p.location(c))
	if p.json != nil {
		p.json.Write("summary", map[string]any{"id": id.String(), "repository": r.ID().String(), "recovery_key": key.String()})
		return nil
	}
	_, err = fmt.Fprintf(p.Stdout, sheet, now.Format(time.DateOnly), url, r.ID(), wrapKey(key.String()), version(), url, url)
	return err
}

// location is the repository as it is found from any working directory.
func (p *program) location(c *cli.Context) string {
	b, err := p.storage(c, open.URL)
	if err != nil { // it was open a moment ago
		return c.String("repo")
	}
	return b.String()
}

// wrapKey breaks a key into lines that can be copied by hand.
func wrapKey(key string) string {
	var b strings.Builder
	for n, group := range strings.Split(key, "-") {
		switch {
		case n == 0:
			b.WriteString("    ")
		case n%6 == 2:
			b.WriteString("-\n    ")
		default:
			b.WriteString("-")
		}
		b.WriteString(group)
	}
	return b.String()
}

func (p *program) keyIdentity(c *cli.Context) error {
	name, err := argument(c, "FILE")
	if err != nil {
		return err
	}
	id, err := seal.NewIdentity(rand.Reader)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	_, err = fmt.Fprintf(f, "# An identity of cairn, made %s. Keep it secret.\n# Its recipient: %s\n%s\n", time.Now().Format(time.DateOnly), id.Recipient(), id)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{"recipient": id.Recipient().String()})
		return nil
	}
	fmt.Fprintln(p.Stdout, id.Recipient())
	return nil
}
