// Bigindex measures a machine's local index with millions of chunks.
//
//	go run ./bench/bigindex [-chunks 10000000,50000000] [-dir DIR] [-profile]
//
// The chunks are made up, in 10,000 segments of packs of 40, and absorbed in the batches in
// which a repository does it on a new machine. Then another process opens the file, looks up
// chunks that are there and some that are not, absorbs segments of 1,000 chunks one by one, as
// snapshots leave them, and reads all entries. All runs in child processes,
// so that each begins with empty memory; the page cache is warm.
//
// It prints a Markdown table, a column for each number of chunks. Times are wall times, unless
// they say CPU: writing is synced, so they depend on the disk too. Anonymous memory is what the
// step added to RssAnon of a process that did nothing.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "bigindex: %v\n", err)
		os.Exit(1)
	}
}

// A job is what a child process does.
type job struct {
	Step   string // fill or use
	Path   string // of the local index
	Chunks int
}

func run() error {
	chunks := flag.String("chunks", "10000000,50000000", "`numbers` of chunks")
	dir := flag.String("dir", os.TempDir(), "`directory` for the index, 64 bytes a chunk")
	child := flag.String("child", "", "for bigindex itself")
	profile := flag.Bool("profile", false, "write CPU profiles of the steps to the directory")
	flag.Parse()
	if *child != "" {
		return runChild(*child, *profile)
	}
	var columns []results
	var heads []string
	for s := range strings.SplitSeq(*chunks, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < segmentsMade {
			return fmt.Errorf("-chunks %s: at least %d", s, segmentsMade)
		}
		r, err := measure(n, *dir, *profile)
		if err != nil {
			return err
		}
		columns, heads = append(columns, r), append(heads, s)
	}
	printTable(os.Stdout, heads, columns)
	return nil
}

func measure(n int, dir string, profile bool) (results, error) {
	dir, err := os.MkdirTemp(dir, "cairn-bigindex-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var all results
	for _, step := range []string{"fill", "use"} {
		j, err := json.Marshal(job{step, filepath.Join(dir, "index"), n})
		if err != nil {
			return nil, err
		}
		c := exec.Command(os.Args[0], "-child", string(j), "-profile="+strconv.FormatBool(profile))
		c.Stderr = os.Stderr
		out, err := c.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step, err)
		}
		var r results
		if err := json.Unmarshal(out, &r); err != nil {
			return nil, err
		}
		all = append(all, r...)
	}
	return all, nil
}

func runChild(arg string, profile bool) error {
	var j job
	if err := json.Unmarshal([]byte(arg), &j); err != nil {
		return err
	}
	if profile {
		f, err := os.Create(filepath.Join(os.TempDir(), fmt.Sprintf("bigindex-%s-%d.prof", j.Step, j.Chunks)))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var r results
	var err error
	if j.Step == "fill" {
		r, err = fill(j)
	} else {
		r, err = use(j)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// results are the rows of a column.
type results []result

type result struct {
	Name  string
	Value float64
	Unit  string
}

func (r *results) add(name string, value float64, unit string) {
	*r = append(*r, result{name, value, unit})
	fmt.Fprintf(os.Stderr, "%s: %s %s\n", name, number(value), unit)
}

func number(v float64) string {
	if v >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func printTable(w io.Writer, heads []string, columns []results) {
	fmt.Fprintf(w, "| chunks | %s |\n|---|%s\n", strings.Join(heads, " | "), strings.Repeat("---:|", len(heads)))
	for i, row := range columns[0] {
		fmt.Fprintf(w, "| %s, %s", row.Name, row.Unit)
		for _, c := range columns {
			fmt.Fprintf(w, " | %s", number(c[i].Value))
		}
		fmt.Fprintln(w, " |")
	}
}
