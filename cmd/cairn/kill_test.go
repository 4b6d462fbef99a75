//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killRounds is how often TestKill kills: SOAK, as make soak sets it, or 20.
func killRounds(t *testing.T) int {
	t.Helper()
	return int(number(t, "SOAK", 20))
}

// killSeed is SOAK_SEED, to repeat a run as far as time can be repeated, or new.
func killSeed(t *testing.T) uint64 {
	t.Helper()
	seed := number(t, "SOAK_SEED", uint64(time.Now().UnixNano()))
	t.Logf("SOAK_SEED=%d", seed)
	return seed
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// killing is a world whose processes get killed.
type killing struct {
	*world
	random *rand.Rand
	times  map[string]time.Duration // how long each victim takes undisturbed
	acked  map[string]bool          // snapshots whose process ended well
	killed int
}

// victim is something to kill.
type victim struct {
	name string
	run  func(k *killing) []*exec.Cmd // to be started together
	// after looks at what is left; ended says which processes ended by themselves.
	after func(k *killing, ended []bool)
}

var victims = []victim{
	{"snapshot", func(k *killing) []*exec.Cmd {
		return []*exec.Cmd{k.child("snapshot", k.src, "--json")}
	}, nil},
	{"two snapshots at once", func(k *killing) []*exec.Cmd {
		other := k.child("--cache-dir", k.path("cache2"), "snapshot", k.src, "--json", "--host", "other")
		return []*exec.Cmd{k.child("snapshot", k.src, "--json"), other}
	}, nil},
	{"key add", func(k *killing) []*exec.Cmd {
		return []*exec.Cmd{k.child("key", "add", "--json", "--label", "victim", "--recipient", k.recipient())}
	}, func(k *killing, ended []bool) {
		list := k.ok("key", "list").out
		if ended[0] && !strings.Contains(list, "victim") {
			k.t.Errorf("a key that was added is not there:\n%s", list)
		}
		for line := range strings.Lines(list) { // they would gather
			if id, _, _ := strings.Cut(line, " "); strings.Contains(line, "victim") {
				k.ok("key", "remove", "--yes", id)
			}
		}
	}},
	{"restore", func(k *killing) []*exec.Cmd {
		k.must(os.RemoveAll(k.path("target")))
		return []*exec.Cmd{k.child("restore", "latest:"+k.src, "--host", "killed", "--target", k.path("target"))}
	}, func(k *killing, ended []bool) {
		// Once more completes it. Deleting what the snapshot does not have takes the
		// temporary files of the first away.
		k.ok("restore", "latest:"+k.src, "--host", "killed", "--target", k.path("target"), "--overwrite", "if-changed", "--delete", "--yes")
		k.must(os.RemoveAll(k.path("again")))
		k.ok("restore", "latest:"+k.src, "--host", "killed", "--target", k.path("again"))
		same(k.t.(*testing.T), k.path("again"), k.path("target"))
	}},
	{"check", func(k *killing) []*exec.Cmd {
		return []*exec.Cmd{k.child("check", "--read-data")}
	}, nil},
}

// TestKill kills the real process at random moments, spread over the time that it
// takes. Afterwards check finds nothing, each acknowledged snapshot is there, the next
// one succeeds, and what it restores to is the source.
func TestKill(t *testing.T) {
	rounds, seed := killRounds(t), killSeed(t)
	k := &killing{
		world: newWorld(t), random: rand.New(rand.NewPCG(seed, 0)),
		times: make(map[string]time.Duration), acked: make(map[string]bool),
	}
	k.extra = append(k.extra, "--host", "killed")
	k.extra = k.extra[:len(k.extra)-2] // a host is an option of commands
	t.Setenv("HOSTNAME", "killed")
	for round := range rounds {
		v := victims[round%len(victims)]
		k.change(round)
		k.round(v)
		if t.Failed() {
			t.Fatalf("in round %d, of %s", round, v.name)
		}
	}
	t.Logf("killed in %d rounds of %d; undisturbed: %v", k.killed, rounds, k.times)
	if k.killed < rounds/4 {
		t.Errorf("only %d of %d processes were killed: they are quicker than the test thinks", k.killed, rounds)
	}
}
