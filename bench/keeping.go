package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// keeping is what a tool can be asked about snapshots that were kept for long.
type keeping struct {
	open    func(places) []string // does little more than open the repository
	list    func(places) []string // prints its snapshots as JSON
	parse   func([]byte) ([]kept, error)
	forget  func(p places, options ...string) []string
	prune   func(places) []string
	restore func(p places, id string) []string
	// fill gives a new repository n snapshots; see fill.go.
	fill func(ctx context.Context, t tool, p places, scratch string, n int) error
	// beside: a snapshot can be made while prune runs.
	beside bool
}

// kept is a snapshot that a tool lists.
type kept struct {
	ID   string    `json:"id"`
	Host string    `json:"host"`
	Time time.Time `json:"time"`
}

func cairnKeeping() *keeping {
	return &keeping{
		open:  func(places) []string { return []string{"key", "list"} },
		list:  func(places) []string { return []string{"snapshots", "--json"} },
		parse: parseCairn,
		forget: func(_ places, options ...string) []string {
			return append([]string{"forget", "-q", "--yes", "--allow-many"}, options...)
		},
		prune:   func(places) []string { return []string{"prune", "-q", "--yes"} },
		restore: func(p places, id string) []string { return []string{"restore", "-q", id, "--target", p.target} },
		fill:    fillCairn,
		beside:  true,
	}
}

func parseCairn(out []byte) ([]kept, error) {
	var all []kept
	for line := range bytes.Lines(out) {
		var m struct {
			Type string `json:"message_type"`
			kept
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, err
		}
		if m.Type == "snapshot" {
			all = append(all, m.kept)
		}
	}
	return all, nil
}

func resticKeeping() *keeping {
	return &keeping{
		open:    func(places) []string { return []string{"cat", "config"} },
		list:    func(places) []string { return []string{"snapshots", "--json"} },
		parse:   parseRestic,
		forget:  func(_ places, options ...string) []string { return append([]string{"forget", "-q"}, options...) },
		prune:   func(places) []string { return []string{"prune", "-q"} },
		restore: func(p places, id string) []string { return []string{"restore", "-q", id, "--target", p.target} },
		fill:    fillRestic,
	}
}

func parseRestic(out []byte) ([]kept, error) {
	var list []struct {
		ID       string    `json:"id"`
		Hostname string    `json:"hostname"`
		Time     time.Time `json:"time"`
	}
	err := json.Unmarshal(out, &list)
	all := make([]kept, len(list))
	for i, s := range list {
		all[i] = kept{s.ID, s.Hostname, s.Time}
	}
	return all, err
}

// output runs a command of a tool and returns what it prints.
func (t tool) output(ctx context.Context, p places, args []string) ([]byte, error) {
	cmd := t.command(ctx, p, args)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w\n%s", t.name, args, err, lastLines(errs.String(), 20))
	}
	return out, nil
}

// snapshots lists the snapshots of a repository, the oldest first.
func (t tool) snapshots(ctx context.Context, p places) ([]kept, error) {
	out, err := t.output(ctx, p, t.keeping.list(p))
	if err != nil {
		return nil, err
	}
	all, err := t.keeping.parse(out)
	if err != nil {
		return nil, fmt.Errorf("%s lists snapshots in another form: %w", t.name, err)
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Host, b.Host)) })
	return all, nil
}

// keepers returns the tools that take part in the workloads forget and prune, and the
// places of each one's prepared repository.
func (c *config) keepers(workload string) (tools []tool, prepared map[string]places, err error) {
	prepared = make(map[string]places)
	for _, t := range c.tools {
		if t.keeping == nil {
			continue
		}
		p, err := c.place(filepath.Join(workload, t.name))
		if err != nil {
			return nil, nil, err
		}
		tools = append(tools, t)
		prepared[t.name] = p
	}
	if tools == nil {
		return nil, nil, fmt.Errorf("none of the tools takes part: cairn and restic do")
	}
	return tools, prepared, nil
}

// place makes the places of a name.
func (c *config) place(name string) (places, error) {
	dir := filepath.Join(c.work, name)
	p := places{repo: filepath.Join(dir, "repo"), private: filepath.Join(dir, "private"), target: filepath.Join(c.tmpfs, name, "target")}
	for _, dir := range []string{p.private, p.target} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return p, err
		}
	}
	return p, nil
}

// clear removes what place made and what was put there.
func (c *config) clear(name string) {
	removeAll(filepath.Join(c.work, name))
	removeAll(filepath.Join(c.tmpfs, name))
}

// copyOf gives a run its own copy of what was prepared, times and all.
func (c *config) copyOf(ctx context.Context, prepared places, name string) (places, error) {
	p, err := c.place(name)
	if err != nil {
		return p, err
	}
	p.source = prepared.source
	if err := copyAll(ctx, prepared.repo, p.repo); err != nil {
		return p, err
	}
	return p, copyAll(ctx, prepared.private+"/.", p.private)
}

func copyAll(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cp: %w\n%s", err, lastLines(string(out), 20))
	}
	return nil
}

// step measures one command of a tool for a sample.
func (s *sample) step(ctx context.Context, t tool, p places, name string, args []string) error {
	syscall.Sync()
	u, err := measure(ctx, t.command(ctx, p, args))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.Steps[name] = u
	return nil
}

// restored restores a snapshot and compares it with a tree.
func (t tool) restored(ctx context.Context, p places, id, want string) error {
	defer os.RemoveAll(filepath.Join(p.target, p.source))
	if _, err := t.output(ctx, p, t.keeping.restore(p, id)); err != nil {
		return err
	}
	if err := compareTrees(want, filepath.Join(p.target, p.source)); err != nil {
		return fmt.Errorf("%s restored something else: %w", t.name, err)
	}
	return nil
}
