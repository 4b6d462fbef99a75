package model

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/internal/need"
)

// world is a model with its parameters.
type world struct {
	name    string
	model   string
	defines string
	// soak: only with SOAK set, as it takes minutes or gigabytes.
	soak bool
	// bits: too large to remember each state. SPIN remembers some bits of each, and so
	// passes over some, and stops after 10 minutes. That may find something, and
	// shows nothing if it doesn't.
	bits bool
	// without are the steps without which it must fail.
	without []string
	// mutants: only those are run here.
	mutants bool
}

var worlds = []world{
	{
		name: "two prunes", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=2",
		without: []string{
			"LEASE", "SEE", "LIST", "FENCECHECK", "RENEWCHECK", "WAIT", "LEASESAFTER", "REMARK", "LEASESFIRST",
			"CASFINAL", "CASPLAN", "KEEPENDS", "COPY", "CASEMPTY", "UNIQUE", "KEEPFINAL",
		},
	},
	{
		name: "two writers", model: "prune.pml", defines: "-DWRITERS=2 -DPRUNES=1", mutants: true,
		without: []string{"ORDER", "WAIT", "REMARK"},
	},
	{
		name: "lost and late answers", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DLOST",
		without: []string{"KEEPENDS", "KEEPABANDONED", "FENCECHECK"},
	},
	{
		name: "forget", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DFORGET",
		without: []string{"TOMBSTONES"},
	},
	{
		name: "undo", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DUNDO",
		without: []string{"UNDOLEASE", "SEE", "WAIT"},
	},
	{
		name: "repair", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DREPAIR",
		without: []string{"GROW"},
	},
	{
		name: "hostile", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DHOSTILE",
		without: []string{"VOUCHED"},
	},
	{
		name: "power", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DPOWER",
		without: []string{"CONFIRM", "CONFIRMCOPY"},
	},
	{
		name: "power and forget", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DPOWER -DFORGET", mutants: true,
		without: []string{"CONFIRMTOMB"},
	},
	{
		name: "a prune alone at last", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DALONE",
		without: []string{"ADOPT"},
	},
	{
		name: "deltas", model: "delta.pml",
		without: []string{"NEEDEDFULL", "REMARK", "BASEUSED", "RENEWCHECK", "WAIT"},
	},
	{
		name: "deltas of two bases", model: "delta.pml", defines: "-DTWO",
		without: []string{"EACHBASE", "BASEUSED", "RENEWCHECK"},
	},
	{
		name: "deltas, any plan", model: "delta.pml", defines: "-DANY", mutants: true,
		without: []string{"BASEFULL"},
	},
	{
		name: "two prunes, sparing", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=2 -DSPARE", mutants: true,
		without: []string{"SAMESET"},
	},

	{name: "two prunes, sparing", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=2 -DSPARE", soak: true},
	{name: "two writers", model: "prune.pml", defines: "-DWRITERS=2 -DPRUNES=1", soak: true},
	{name: "power and forget", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=1 -DPOWER -DFORGET", soak: true},
	{name: "two prunes, lost answers", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=2 -DLOST", soak: true},
	{name: "two prunes, undo", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=2 -DUNDO", soak: true},
	{name: "a writer, undo", model: "prune.pml", defines: "-DWRITERS=2 -DPRUNES=1 -DUNDO", soak: true, bits: true},
	{name: "two prunes, forget", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=2 -DFORGET", soak: true, bits: true},
	{name: "two prunes, power", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=2 -DPOWER", soak: true, bits: true},
	{name: "two prunes, one alone at last", model: "prune.pml", defines: "-DWRITERS=1 -DPRUNES=2 -DALONE", soak: true, bits: true},
	{name: "two writers and two prunes", model: "prune.pml", defines: "-DWRITERS=2 -DPRUNES=2", soak: true, bits: true},
	{name: "deltas, any plan", model: "delta.pml", defines: "-DANY", soak: true},
}

// TestModel has SPIN look for an order of operations that loses something: there must
// be none, and with each step left out there must be one.
func TestModel(t *testing.T) {
	need.Commands(t, "spin", "gcc")
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			if w.soak && os.Getenv("SOAK") == "" {
				t.Skip("only in make soak")
			}
			t.Parallel()
			dir := build(t, w)
			if !w.mutants {
				if errs, _ := run(t, w, dir, 0); errs != 0 {
					t.Errorf("something is lost; the trail is in %s", keep(t, w, dir))
				}
			}
			for _, step := range w.without {
				if errs, _ := run(t, w, dir, number(t, w.model, step)); errs == 0 {
					t.Errorf("nothing is lost without %s: the model does not need it, or is blind to it", step)
				}
			}
		})
	}
}

// TestEveryStepIsLeftOut sees to it that no step of a model is forgotten above.
func TestEveryStepIsLeftOut(t *testing.T) {
	for _, model := range []string{"prune.pml", "delta.pml"} {
		left := make(map[string]bool)
		for _, w := range worlds {
			for _, step := range w.without {
				left[step] = left[step] || w.model == model
			}
		}
		for step := range steps(t, model) {
			if !left[step] {
				t.Errorf("%s: no world is without %s", model, step)
			}
		}
	}
}

var stepLine = regexp.MustCompile(`(?m)^#define ([A-Z]+) +([0-9]+)\b`)

// steps reads the numbers of the steps from a model.
func steps(t *testing.T, model string) map[string]int {
	t.Helper()
	source, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	text, _, ok := strings.Cut(string(source), "c_decl")
	if !ok {
		t.Fatalf("%s has no c_decl behind its steps", model)
	}
	_, text, _ = strings.Cut(text, "#define NOTHING 0")
	found := make(map[string]int)
	for _, m := range stepLine.FindAllStringSubmatch(text, -1) {
		found[m[1]], _ = strconv.Atoi(m[2])
	}
	if len(found) == 0 {
		t.Fatalf("%s: no steps found", model)
	}
	return found
}

func number(t *testing.T, model, step string) int {
	t.Helper()
	n, ok := steps(t, model)[step]
	if !ok {
		t.Fatalf("%s has no step %s", model, step)
	}
	return n
}

// build makes SPIN's verifier of a world in a temporary folder.
func build(t *testing.T, w world) string {
	t.Helper()
	dir := t.TempDir()
	source, err := filepath.Abs(w.model)
	if err != nil {
		t.Fatal(err)
	}
	command(t, dir, "spin", append(append([]string{"-a"}, strings.Fields(w.defines)...), source)...)
	flags := []string{"-O1", "-w", "-DSAFETY", "-DNOCLAIM", "-DNOFAIR", "-DNOREDUCE", "-DNOBOUNDCHECK"}
	if w.soak {
		flags[0] = "-O2"
	}
	if w.bits {
		flags = append(flags, "-DBITSTATE")
	} else {
		flags = append(flags, "-DMEMLIM="+strconv.Itoa(memory(w)))
	}
	command(t, dir, "gcc", append(flags, "-o", "pan", "pan.c")...)
	return dir
}

// memory is how much a verifier may use, in MiB. Beyond it gives up, which is an error
// of the test.
func memory(w world) int {
	if w.soak {
		return 6000
	}
	return 500
}

func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

var (
	errorsLine = regexp.MustCompile(`depth reached ([0-9]+), errors: ([0-9]+)`)
	statesLine = regexp.MustCompile(`(?m)^ *([0-9.e+]+) states, stored`)
)

// run has the verifier try all orders without a step, and returns how many errors it
// found: it stops at the first. A search that was cut short proves nothing, and ends
// the test.
func run(t *testing.T, w world, dir string, omit int) (errs int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	hash := "-w20"
	switch {
	case w.bits:
		hash = "-w33" // 1 GiB
	case w.soak:
		hash = "-w24"
	}
	// -n: no list of what was not reached. -E: that a process waits for ever is no
	// error here.
	args := []string{"-m1000000", hash, "-n", "-E"}
	cuts := []string{"max search depth too small", "out of memory", "memory limit", "Search not completed"}
	if w.bits {
		args, cuts = append(args, "-Q10"), cuts[:1]
	}
	cmd := exec.CommandContext(ctx, "./pan", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OMIT="+strconv.Itoa(omit))
	began := time.Now()
	b, err := cmd.CombinedOutput()
	out = string(b)
	found := errorsLine.FindStringSubmatch(out)
	if found == nil || ctx.Err() != nil {
		t.Fatalf("the verifier did not finish: %v\n%s", err, out)
	}
	errs, _ = strconv.Atoi(found[2])
	for _, cut := range cuts {
		if errs == 0 && strings.Contains(out, cut) {
			t.Fatalf("the search was cut short (%s), so it shows nothing\n%s", cut, out)
		}
	}
	states := "?"
	if m := statesLine.FindStringSubmatch(out); m != nil {
		states = m[1]
	}
	t.Logf("omit %d: %s states, depth %s, %d errors, %.1f s", omit, states, found[1], errs, time.Since(began).Seconds())
	return errs, out
}

// keep saves what is needed to follow an error that was found.
func keep(t *testing.T, w world, dir string) string {
	t.Helper()
	to, err := os.MkdirTemp("", "cairn-model-")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pan.c", "pan"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			_ = os.WriteFile(filepath.Join(to, name), b, 0o700)
		}
	}
	trail, err := os.ReadFile(filepath.Join(dir, w.model+".trail"))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, w.model+".trail"), trail, 0o600)
	}
	if err != nil {
		return fmt.Sprintf("%s (%v)", to, err)
	}
	return to
}
