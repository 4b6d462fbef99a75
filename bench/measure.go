package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A usage is what one step of a tool took.
type usage struct {
	Wall     seconds `json:"wall_s"`
	CPU      seconds `json:"cpu_s"`           // user and system time of all its processes
	PeakAnon int64   `json:"peak_anon_bytes"` // the most anonymous memory seen at one moment
	PeakRSS  int64   `json:"peak_rss_bytes"`  // the resident peaks of its processes, added up
}

// add is what both steps took, one after the other.
func (u usage) add(v usage) usage {
	return usage{
		Wall: seconds{u.Wall.Duration + v.Wall.Duration}, CPU: seconds{u.CPU.Duration + v.CPU.Duration},
		PeakAnon: max(u.PeakAnon, v.PeakAnon), PeakRSS: max(u.PeakRSS, v.PeakRSS),
	}
}

// seconds is a duration that is a number of seconds in JSON.
type seconds struct{ time.Duration }

// MarshalJSON implements [json.Marshaler].
func (s seconds) MarshalJSON() ([]byte, error) { return json.Marshal(s.Seconds()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	s.Duration = time.Duration(f * float64(time.Second))
	return nil
}

// measure runs cmd in a process group of its own and watches it. When ctx is
// done the whole group is killed. What the command printed is in the error, and
// else forgotten.
func measure(ctx context.Context, cmd *exec.Cmd) (usage, error) {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second

	start := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	stop, peaks := make(chan struct{}), make(chan usage)
	go func() { peaks <- watch(cmd.Process.Pid, stop) }()
	err := cmd.Wait()
	wall := time.Since(start)
	close(stop)
	u := <-peaks
	if ctx.Err() != nil {
		return usage{}, ctx.Err()
	}
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, lastLines(output.String(), 20))
	}
	u.Wall.Duration = wall
	u.CPU.Duration = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return u, nil
}

const (
	sampleEvery = 5 * time.Millisecond
	listEvery   = 20 // samples between two looks at which processes there are
)

// watch samples the memory of a process group until stop is closed. It reads
// VmHWM rather than take ru_maxrss from the end of the process, since that
// begins with the size of the parent that started it.
func watch(group int, stop <-chan struct{}) usage {
	var u usage
	pids := []int{group}
	rss := make(map[int]int64) // the last seen peak of each process
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n%listEvery == listEvery-1 {
			pids = members(group)
		}
		var anon int64
		for _, pid := range pids {
			status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
			if err != nil {
				continue // it has ended
			}
			anon += kibibytes(string(status), "RssAnon")
			rss[pid] = max(rss[pid], kibibytes(string(status), "VmHWM"))
		}
		u.PeakAnon = max(u.PeakAnon, anon)
		select {
		case <-tick.C:
		case <-stop:
			for _, n := range rss {
				u.PeakRSS += n
			}
			return u
		}
	}
}

// members lists the processes of a group.
func members(group int) []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The name of the program stands in parentheses and may have anything
		// in it; behind it are the state, the parent and the group.
		_, rest, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), " ")
		if f := strings.Fields(rest); len(f) > 2 && f[2] == strconv.Itoa(group) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// field returns the value of a line "name: value" of a file of /proc.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kibibytes returns such a value in bytes; a process that is about to end has
// none, and uses none.
func kibibytes(text, name string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(field(text, name), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
