//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKill kills the real process with SIGKILL at random moments, spread over the
// time that it takes. Afterwards check must find nothing, each acknowledged snapshot
// must be there unless it is to be forgotten, and none whose forgetting was acknowledged;
// the next must succeed, and what that restores to must be the source.
//
// SOAK is the number of rounds (20; make soak does 500). SOAK_SEED repeats a run as
// far as time can be repeated.
func TestKill(t *testing.T) {
	rounds := number(t, "SOAK", 20)
	seed := number(t, "SOAK_SEED", uint64(time.Now().UnixNano()))
	t.Logf("SOAK_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var k *killing
	killed := 0
	for round := range rounds {
		if round%25 == 0 { // so that check, which reads all, stays quick
			k = newKilling(t, random)
		}
		v := victims[round%uint64(len(victims))]
		killed += k.kill(v)
		if t.Failed() {
			t.Fatalf("round %d, of %s", round, v.name)
		}
	}
	t.Logf("killed %d processes in %d rounds; within %v", killed, rounds, k.times)
	if killed < int(rounds)/4 {
		t.Errorf("only %d processes were killed in %d rounds: they are quicker than the test thinks", killed, rounds)
	}
}

// number returns the number in a variable of the environment.
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

// victim is something to kill.
type victim struct {
	name  string
	start func(k *killing) []*exec.Cmd // processes to be started together
	after func(k *killing)             // looks at more than every round does
}

var victims = []victim{
	{name: "snapshot", start: func(k *killing) []*exec.Cmd {
		return []*exec.Cmd{k.child("snapshot", k.src, "--json", "--host", "alpha")}
	}},
	{name: "two snapshots at once", start: func(k *killing) []*exec.Cmd {
		return []*exec.Cmd{
			k.child("snapshot", k.src, "--json", "--host", "alpha"),
			k.child("snapshot", k.src, "--json", "--host", "beta", "--cache-dir", k.path("cache of beta")),
		}
	}},
	{name: "key add", start: func(k *killing) []*exec.Cmd {
		recipient := strings.TrimSpace(k.ok("key", "identity", k.path(fmt.Sprint("identity", k.random.Uint64()))).out)
		return []*exec.Cmd{k.child("key", "add", "--write-only", "--recipient", recipient, "--label", "victim", "--json")}
	}},
	{name: "key remove", start: func(k *killing) []*exec.Cmd {
		recipient := strings.TrimSpace(k.ok("key", "identity", k.path(fmt.Sprint("identity", k.random.Uint64()))).out)
		id := last(messages(k.t, k.ok("key", "add", "--write-only", "--recipient", recipient, "--json").out))["id"].(string)
		return []*exec.Cmd{k.child("key", "remove", "--yes", id, "--json")}
	}},
	{name: "restore", start: func(k *killing) []*exec.Cmd {
		k.remove("target")
		return []*exec.Cmd{k.child("restore", "latest:"+k.src, "--host", "alpha", "--target", k.path("target"))}
	}, after: func(k *killing) {
		// Once more completes it. Deleting what the snapshot has not takes the
		// temporary files of the first away.
		k.ok("restore", "latest:"+k.src, "--host", "alpha", "--target", k.path("target"), "--overwrite", "if-changed", "--delete", "--yes")
		k.remove("whole")
		k.ok("restore", "latest:"+k.src, "--host", "alpha", "--target", k.path("whole"))
		same(k.t.(*testing.T), k.path("whole"), k.path("target"))
	}},
	{name: "forget", start: func(k *killing) []*exec.Cmd {
		return []*exec.Cmd{k.forgetting(3)}
	}, after: (*killing).forgotten},
	{name: "prune", start: func(k *killing) []*exec.Cmd {
		k.garbage()
		return []*exec.Cmd{k.child("prune", "--yes", "--json")}
	}, after: (*killing).pruned},
	{name: "forget and prune in one", start: func(k *killing) []*exec.Cmd {
		k.garbage()
		cmd := k.forgetting(1, "--prune", "--max-unused", "0%")
		return []*exec.Cmd{cmd}
	}, after: func(k *killing) {
		k.forgotten()
		k.pruned()
	}},
	{name: "two snapshots and a prune at once", start: func(k *killing) []*exec.Cmd {
		k.garbage()
		return []*exec.Cmd{
			k.child("snapshot", k.src, "--json", "--host", "alpha"),
			k.child("prune", "--yes", "--json", "--max-unused", "0%", "--cache-dir", k.path("cache of the admin")),
			k.child("snapshot", k.src, "--json", "--host", "beta", "--cache-dir", k.path("cache of beta")),
		}
	}, after: (*killing).pruned},
}

// forgetting returns a forget of the n oldest snapshots that are listed; the newest
// three always stay.
func (k *killing) forgetting(n int, options ...string) *exec.Cmd {
	k.t.Helper()
	ids := k.ids()
	ids = ids[:min(n, max(0, len(ids)-3))]
	for len(ids) == 0 {
		k.ok("snapshot", k.src, "--host", "alpha")
		k.ok("snapshot", k.src, "--host", "beta")
		all := k.ids()
		ids = all[:min(n, max(0, len(all)-3))]
	}
	for _, id := range ids {
		k.asked[id] = true
	}
	return k.child(slices.Concat([]string{"forget", "--yes", "--allow-many", "--json"}, options, ids)...)
}

// forgotten looks whether the snapshots that are to be forgotten are, or can be.
func (k *killing) forgotten() {
	k.t.Helper()
	var left []string
	for _, id := range k.ids() {
		if k.asked[id] {
			left = append(left, id)
		}
	}
	if len(left) == 0 {
		return
	}
	k.ok(slices.Concat([]string{"forget", "--yes", "--allow-many"}, left)...)
	for _, id := range left {
		k.gone[id] = true
	}
	k.compare()
}

// garbage forgets a snapshot of which much is in no other one.
func (k *killing) garbage() {
	k.t.Helper()
	id := last(messages(k.t, k.ok("snapshot", k.src, "--host", "garbage", "--json").out))["id"].(string)
	k.change()
	k.ok("forget", "--yes", "--allow-many", id)
	k.asked[id], k.gone[id] = true, true
}

// pruned looks whether the next prune finishes what the killed one began, and leaves
// nothing to be freed. The runs that were killed are silent from now on.
func (k *killing) pruned() {
	k.t.Helper()
	for range 2 { // the first may only finish the list of the one before
		m := last(messages(k.t, k.ok("prune", "--yes", "--json", "--max-unused", "0%", "--fence-after", "0s").out))
		if waiting, ok := m["waiting"].([]any); !ok || len(waiting) > 0 {
			k.t.Errorf("prune waits though nothing runs: %v", m)
		}
	}
	m := last(messages(k.t, k.ok("prune", "--dry-run", "--json", "--max-unused", "0%").out))
	if m["frees_bytes"] != 0. || m["unused_bytes"] != 0. {
		k.t.Errorf("two prunes later there is garbage: %v", m)
	}
	for _, l := range k.leftovers() {
		if !strings.Contains(l, "an ended lease") { // of runs that did not commit: they stay
			k.t.Errorf("two prunes later %s is left", l)
		}
	}
}

// leftovers are what check finds of killed runs.
func (k *killing) leftovers() (all []string) {
	k.t.Helper()
	for _, m := range messages(k.t, k.ok("check", "--read-data", "--json").out) {
		if m["message_type"] == "leftover" {
			all = append(all, fmt.Sprint(m))
		}
	}
	return all
}

// killing is a world whose processes get killed.
type killing struct {
	*world
	random    *rand.Rand
	times     map[string]time.Duration // within which each victim is killed
	snapshots map[string]bool          // acknowledged
	asked     map[string]bool          // those of them that are to be forgotten
	gone      map[string]bool          // and those of which that was acknowledged
	keys      map[string]bool          // whether an acknowledgement says that a key is there
	changes   int
}

func newKilling(t *testing.T, random *rand.Rand) *killing {
	t.Helper()
	k := &killing{world: newWorld(t), random: random, times: map[string]time.Duration{}, snapshots: map[string]bool{}, asked: map[string]bool{}, gone: map[string]bool{}, keys: map[string]bool{}}
	k.ok("snapshot", k.src, "--host", "alpha")
	for _, v := range victims {
		k.change()
		cmds := k.start(v)
		begin := time.Now()
		for _, cmd := range cmds {
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%s, undisturbed: %v", v.name, err)
			}
			k.acknowledged(cmd)
		}
		k.times[v.name] = time.Since(begin)
	}
	return k
}

func (k *killing) remove(name string) {
	k.t.Helper()
	if err := os.RemoveAll(k.path(name)); err != nil {
		k.t.Fatal(err)
	}
}

// change gives the next snapshot something to do: a megabyte that does not compress,
// in a large file and many small ones.
func (k *killing) change() {
	k.t.Helper()
	k.changes++
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(k.random.Uint32())
	}
	k.write(fmt.Sprint("src/large", k.changes%4), string(p[:900<<10]))
	for i, part := range slices.Collect(slices.Chunk(p[900<<10:], 4<<10)) {
		k.write(fmt.Sprintf("src/small/%d/%d", i%5, i), string(part))
	}
}

func (k *killing) start(v victim) []*exec.Cmd {
	k.t.Helper()
	cmds := v.start(k)
	for _, cmd := range cmds {
		cmd.Stdout = new(bytes.Buffer)
		if err := cmd.Start(); err != nil {
			k.t.Fatal(err)
		}
	}
	return cmds
}

// kill is one round. It returns how many processes were killed.
func (k *killing) kill(v victim) (killed int) {
	k.t.Helper()
	k.change()
	takes := k.times[v.name]
	moments := make([]time.Duration, 3)
	for i := range moments {
		moments[i] = time.Duration(k.random.Int64N(int64(takes)))
	}
	cmds := k.start(v)
	begin := time.Now()
	for i, cmd := range cmds {
		time.Sleep(moments[i] - time.Since(begin))
		cmd.Process.Kill()
		if cmd.Wait() != nil {
			killed++
			k.times[v.name] = takes * 11 / 10
		} else {
			k.times[v.name] = takes * 8 / 10 // the machine is quicker by now
		}
		k.acknowledged(cmd)
	}
	k.ok("check", "--read-data")
	k.compare()
	if v.after != nil {
		v.after(k)
	}
	k.ok("snapshot", k.src, "--host", "alpha")
	k.remove("out")
	k.ok("restore", "latest:"+k.src, "--host", "alpha", "--target", k.path("out"))
	same(k.t.(*testing.T), k.src, k.path("out"))
	return killed
}

// acknowledged takes down what a process said before it ended.
func (k *killing) acknowledged(cmd *exec.Cmd) {
	k.t.Helper()
	if cmd.ProcessState.Success() && slices.Contains(cmd.Args, "forget") {
		for _, arg := range cmd.Args {
			if k.asked[arg] {
				k.gone[arg] = true
			}
		}
		return
	}
	for line := range bytes.Lines(cmd.Stdout.(*bytes.Buffer).Bytes()) {
		var m message
		if json.Unmarshal(line, &m) != nil || m["message_type"] != "summary" {
			continue // not JSON, or cut off
		}
		id, _ := m["id"].(string)
		removed, _ := m["removed"].(string)
		switch {
		case removed != "":
			k.keys[removed] = false
		case m["access"] != nil:
			k.keys[id] = true
		case id != "":
			k.snapshots[id] = true
		}
	}
}

// compare looks for what was acknowledged.
func (k *killing) compare() {
	k.t.Helper()
	ids := k.ids()
	for id := range k.snapshots {
		if !slices.Contains(ids, id) && !k.asked[id] {
			k.t.Errorf("snapshot %s was acknowledged and is lost", id)
		}
	}
	for id := range k.gone {
		if slices.Contains(ids, id) {
			k.t.Errorf("snapshot %s was forgotten and is back", id)
		}
	}
	list := k.ok("key", "list", "--json").out
	for id, there := range k.keys {
		if strings.Contains(list, id) != there {
			k.t.Errorf("key %s was acknowledged to be there: %t; now it is not so:\n%s", id, there, list)
		}
	}
}
