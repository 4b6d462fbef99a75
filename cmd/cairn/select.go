package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// filter chooses snapshots. Zero fields choose all.
type filter struct {
	hosts, tags, sources []string
}

func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "host", Usage: "only snapshots of `HOST`"},
		&cli.StringSliceFlag{Name: "tag", Usage: "only snapshots with `TAG`"},
		&cli.StringSliceFlag{Name: "source", Usage: "only snapshots of source `NAME` (a path, or what snapshots shows, as tar/NAME)"},
	}
}

func filterOf(c *cli.Context) filter {
	return filter{hosts: c.StringSlice("host"), tags: c.StringSlice("tag"), sources: c.StringSlice("source")}
}

// fits reports whether a snapshot is among those that the filter chooses. Its
// body must be loaded if the filter has tags or sources.
func (f filter) fits(s *repo.Snapshot) bool {
	if len(f.hosts) > 0 && !slices.Contains(f.hosts, s.Open.Host) {
		return false
	}
	for _, t := range f.tags {
		if s.Body == nil || !slices.Contains(s.Body.Tags, t) {
			return false
		}
	}
	if len(f.sources) == 0 {
		return true
	}
	return s.Body != nil && slices.ContainsFunc(s.Body.Sources, func(src snapshot.Source) bool {
		return slices.Contains(f.sources, string(src.Name)) || slices.Contains(f.sources, sourceName(src))
	})
}

// list returns the snapshots that fit, newest first, with their bodies where
// the key can open them, and the damage that was met. It warns if one of their
// hosts is claimed by several keys.
func (p *program) list(ctx context.Context, r *repo.Repository, f filter) ([]*repo.Snapshot, []error, error) {
	set, err := r.Snapshots(ctx)
	if err != nil {
		return nil, nil, err
	}
	damage := slices.Clone(set.Damage)
	var found []*repo.Snapshot
	for _, s := range set.Newest() {
		if err := r.LoadBody(ctx, s); err != nil {
			switch {
			case errors.Is(err, repo.ErrDamage):
				damage = append(damage, err)
				continue
			case !errors.Is(err, repo.ErrWriteOnly):
				return nil, nil, err
			}
		}
		if f.fits(s) {
			found = append(found, s)
		}
	}
	rivals := slices.DeleteFunc(set.Rivals(), func(x *repo.Rivals) bool {
		return !slices.ContainsFunc(found, func(s *repo.Snapshot) bool { return s.Open.Host == x.Host })
	})
	return found, damage, p.warnOfRivals(r, rivals)
}

// warnOfRivals says that several keys claim a host.
func (p *program) warnOfRivals(r *repo.Repository, rivals []*repo.Rivals) error {
	for _, x := range rivals {
		text, err := r.Rivalry(x)
		if err != nil {
			return err
		}
		p.warn("%s", text)
	}
	return nil
}

// find1 returns the one snapshot that a word means: "latest", or the
// beginning of an ID.
func (p *program) find1(ctx context.Context, r *repo.Repository, word string, f filter) (*repo.Snapshot, error) {
	found, damage, err := p.list(ctx, r, f)
	if err != nil {
		return nil, err
	}
	if word == "latest" {
		// The damaged one might be the latest: an older one in its place would
		// be a wrong answer.
		if len(damage) > 0 {
			return nil, fmt.Errorf("which snapshot is the latest can't be said; give an ID: %w", errors.Join(damage...))
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("latest: %w", repo.ErrNoSnapshot)
		}
		return found[0], nil
	}
	for _, d := range damage {
		p.warn("%v", d)
	}
	if len(word) < 4 || strings.Trim(word, "0123456789abcdef") != "" {
		return nil, usagef("snapshot %q: want latest, or at least four digits of an ID", word)
	}
	found = slices.DeleteFunc(found, func(s *repo.Snapshot) bool { return !strings.HasPrefix(s.ID.String(), word) })
	switch len(found) {
	case 0:
		for _, d := range damage {
			var de *repo.DamageError
			if errors.As(d, &de) && strings.HasPrefix(de.Object, "snapshots/"+word) {
				return nil, d
			}
		}
		return nil, fmt.Errorf("snapshot %s: %w", word, repo.ErrNoSnapshot)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("snapshot %s: %w; give more digits", word, repo.ErrAmbiguous)
}

// chosen is a snapshot and a path in it.
type chosen struct {
	*repo.Snapshot
	path string // without a slash at its end, unless it is "/"; empty: everything
}

// choose finds what an argument SNAPSHOT[:PATH] means. oneHost demands --host
// for "latest" if several hosts have snapshots: to restore another
// machine's files would be a bad surprise.
func (p *program) choose(c *cli.Context, r *repo.Repository, arg string, oneHost bool) (chosen, error) {
	word, path, _ := strings.Cut(arg, ":")
	f := filterOf(c)
	if oneHost && word == "latest" && len(f.hosts) == 0 {
		set, err := r.Snapshots(c.Context)
		if err != nil {
			return chosen{}, err
		}
		var hosts []string
		for _, s := range set.Newest() {
			if !slices.Contains(hosts, s.Open.Host) {
				hosts = append(hosts, s.Open.Host)
			}
		}
		if len(hosts) > 1 {
			slices.Sort(hosts)
			return chosen{}, usagef("latest of which host? give --host; there are %s", strings.Join(hosts, ", "))
		}
	}
	s, err := p.find1(c.Context, r, word, f)
	if err != nil {
		return chosen{}, err
	}
	if s.Body == nil {
		return chosen{}, fmt.Errorf("look into snapshot %s: %w", s.ID.Short(), repo.ErrWriteOnly)
	}
	if len(path) > 1 {
		path = strings.TrimRight(path, "/")
	}
	found := chosen{s, path}
	return found, found.checkSlash(c.Context, r, word)
}

// checkSlash refuses a path that is not in the snapshot and would be with or without the
// slash at its beginning: paths of files have one, those of streams and archives don't.
// Any other trouble with the path is left to the command.
func (s chosen) checkSlash(ctx context.Context, r *repo.Repository, word string) error {
	other, slash := strings.CutPrefix(s.path, "/")
	if !slash {
		other = "/" + s.path
	}
	if s.path == "" || s.path == "/" {
		return nil
	}
	if has, err := s.has(ctx, r, s.path); has || err != nil {
		return nil
	}
	if has, err := s.has(ctx, r, other); !has || err != nil {
		return nil
	}
	return &hintError{
		fmt.Errorf("%s is not in snapshot %s", termui.Quote(s.path), s.ID.Short()),
		fmt.Sprintf("did you mean %s?", termui.Quote(word+":"+other)),
	}
}

// has reports whether a path is in the snapshot.
func (s chosen) has(ctx context.Context, r *repo.Repository, path string) (bool, error) {
	k, err := snapshot.KeyOf(path)
	if err != nil {
		return false, err
	}
	e, err := s.tree(r).Lookup(ctx, k)
	return e != nil, err
}

// tree is the snapshot's tree of entries.
func (s chosen) tree(r *repo.Repository) snapshot.Tree {
	return snapshot.Tree{Root: s.Body.Root, Source: r}
}

// key is the key of the chosen path, false if it is everything.
func (s chosen) key() (snapshot.Key, bool, error) {
	if s.path == "" {
		return "", false, nil
	}
	k, err := snapshot.KeyOf(s.path)
	if err != nil {
		return "", false, usagef("path %q: %v", s.path, err)
	}
	return k, true, nil
}
