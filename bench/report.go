package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The steps of a run.
const (
	stepInit      = "init"
	stepFirst     = "first"
	stepUnchanged = "unchanged"
	stepChanged   = "changed"
	stepRestore   = "restore"
	stepCheck     = "check"
)

// baseline is the tool that the others are compared with.
const baseline = "restic"

// A report is all that was measured. Its JSON is what bench/out keeps.
type report struct {
	Date      time.Time         `json:"date"`
	Machine   machine           `json:"machine"`
	Runs      int               `json:"runs"`
	Flags     []string          `json:"flags"` // that bench was started with
	Tools     []toolInfo        `json:"tools"`
	Missing   []string          `json:"missing,omitempty"` // tools that are not installed
	Workloads []*workloadResult `json:"workloads"`
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

type toolInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// A workloadResult has a sample for each run of each tool.
type workloadResult struct {
	Name    string    `json:"name"`
	What    string    `json:"what,omitempty"` // instead of files and bytes
	Files   int       `json:"files,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"`
	Samples []*sample `json:"samples"`
}

// A sample is one run of one tool.
type sample struct {
	Tool         string           `json:"tool"`
	Run          int              `json:"run"`
	Steps        map[string]usage `json:"steps"`
	FirstBytes   int64            `json:"first_bytes"`   // in the repository after the first snapshot
	ChangedBytes int64            `json:"changed_bytes"` // added to it by the one after the edits
	Sizes        map[string]int64 `json:"sizes,omitempty"`
}

// save writes the report to a new file in dir and returns its name.
func (r *report) save(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, r.Date.Format("20060102T150405Z")+".json")
	return name, os.WriteFile(name, append(b, '\n'), 0o644)
}

// A row of the table is a number of each sample, of which the median counts.
type row struct {
	name   string
	value  func(*sample) float64
	format func(float64) string
	speed  bool // the ratio says how many times as fast, else it is a percentage
}

// cell is what a tool's column says.
func (r row) cell(v, base float64, isBase bool) string {
	switch {
	case v == 0:
		return "–"
	case isBase:
		return r.format(v)
	}
	return r.format(v) + r.ratio(v, base)
}

func (r row) ratio(v, base float64) string {
	if v == 0 || base == 0 {
		return ""
	}
	if r.speed {
		return fmt.Sprintf(" (%.2f×)", base/v)
	}
	return fmt.Sprintf(" (%.0f %%)", 100*v/base)
}

func formatSeconds(v float64) string { return fmt.Sprintf("%.2f s", v) }
func formatMB(v float64) string      { return fmt.Sprintf("%.1f MB", v/1e6) }
func formatMiB(v float64) string     { return fmt.Sprintf("%.0f MiB", v/(1<<20)) }

func formatNumber(v float64) string  { return fmt.Sprintf("%.0f", v) }
func formatPercent(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }

func wallOf(step string) func(*sample) float64 {
	return func(s *sample) float64 { return s.Steps[step].Wall.Seconds() }
}

func cpuOf(step string) func(*sample) float64 {
	return func(s *sample) float64 { return s.Steps[step].CPU.Seconds() }
}

func anonOf(step string) func(*sample) float64 {
	return func(s *sample) float64 { return float64(s.Steps[step].PeakAnon) }
}

func sizeOf(name string) func(*sample) float64 {
	return func(s *sample) float64 { return float64(s.Sizes[name]) }
}

func firstBytes(s *sample) float64   { return float64(s.FirstBytes) }
func changedBytes(s *sample) float64 { return float64(s.ChangedBytes) }

// peakAnon is the most that any step took.
func peakAnon(s *sample) float64 {
	var peak int64
	for _, u := range s.Steps {
		peak = max(peak, u.PeakAnon)
	}
	return float64(peak)
}

func peakRSS(s *sample) float64 {
	var peak int64
	for _, u := range s.Steps {
		peak = max(peak, u.PeakRSS)
	}
	return float64(peak)
}

// rowsOf returns the rows of a workload's table.
func rowsOf(workload string) []row {
	switch workload {
	case "forget":
		return forgetRows
	case "prune":
		return pruneRows
	case "postgres":
		return databaseRows
	case "source":
		return treeRows("later releases")
	case "dump", "dump-stdin":
		return treeRows("1 % of rows updated")
	case "vm":
		return treeRows("0.5 % of blocks rewritten, as much added")
	}
	return treeRows("1 % edited")
}

// treeRows are the rows of a workload that is backed up, restored and checked; changed says
// what the later snapshots are of.
func treeRows(changed string) []row {
	return []row{
		{"first snapshot", wallOf(stepFirst), formatSeconds, true},
		{"… CPU", cpuOf(stepFirst), formatSeconds, true},
		{"… stored", firstBytes, formatMB, false},
		{"unchanged", wallOf(stepUnchanged), formatSeconds, true},
		{"… CPU", cpuOf(stepUnchanged), formatSeconds, true},
		{changed, wallOf(stepChanged), formatSeconds, true},
		{"… CPU", cpuOf(stepChanged), formatSeconds, true},
		{"… added", changedBytes, formatMB, false},
		{"restore to tmpfs", wallOf(stepRestore), formatSeconds, true},
		{"… CPU", cpuOf(stepRestore), formatSeconds, true},
		{"check, reading all", wallOf(stepCheck), formatSeconds, true},
		{"… CPU", cpuOf(stepCheck), formatSeconds, true},
		{"peak anonymous memory", peakAnon, formatMiB, false},
		{"peak resident memory", peakRSS, formatMiB, false},
	}
}

var forgetRows = []row{
	{"forget", wallOf(stepForget), formatSeconds, true},
	{"… CPU", cpuOf(stepForget), formatSeconds, true},
	{"dry run", wallOf(stepDry), formatSeconds, true},
	{"… CPU", cpuOf(stepDry), formatSeconds, true},
	{"for comparison: opening the repository", wallOf(stepOpen), formatSeconds, true},
	{"snapshots kept", sizeOf(sizeKept), formatNumber, false},
	{"peak anonymous memory", peakAnon, formatMiB, false},
}

var pruneRows = []row{
	{"prune", wallOf(stepPrune), formatSeconds, true},
	{"… CPU", cpuOf(stepPrune), formatSeconds, true},
	{"… peak anonymous memory", anonOf(stepPrune), formatMiB, false},
	{"repository before", sizeOf(sizeBefore), formatMB, false},
	{"repository after", sizeOf(sizeAfter), formatMB, false},
	{"a snapshot of as many files, alone", wallOf(stepAlone), formatSeconds, true},
	{"… beside prune", wallOf(stepBeside), formatSeconds, true},
	{"… of its usual speed", speedBeside, formatPercent, false},
	{"… of its usual speed, as long as prune ran", relativeSpeed, formatPercent, false},
	{"prune beside that snapshot", wallOf(stepPruneBeside), formatSeconds, true},
}

// median returns the median of what value says of a tool's samples, 0 if it has
// none.
func (w *workloadResult) median(tool string, value func(*sample) float64) float64 {
	var v []float64
	for _, s := range w.Samples {
		if s.Tool == tool {
			v = append(v, value(s))
		}
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// What updateFile replaces stands between these lines.
const (
	updateBegin = "<!-- bench:begin -->"
	updateEnd   = "<!-- bench:end -->"
)

// updateFile puts the report into a document.
func (r *report) updateFile(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), updateBegin+"\n")
	_, after, ok2 := strings.Cut(rest, updateEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks the lines %s and %s", name, updateBegin, updateEnd)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n\n%s: `go run ./bench %s`\n\n", before, updateBegin, r.Date.Format(time.DateOnly), strings.Join(r.Flags, " "))
	r.print(&b)
	fmt.Fprintf(&b, "\n%s%s", updateEnd, after)
	return os.WriteFile(name, []byte(b.String()), 0o644)
}

// print writes the report as Markdown.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d cores, Linux %s, %s; medians of %d runs; ratios to %s.\n",
		cmp.Or(r.Machine.CPU, "unknown processor"), r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Runs, baseline)
	for _, t := range r.Tools {
		fmt.Fprintf(w, "- %s: %s\n", t.Name, t.Version)
	}
	for _, name := range r.Missing {
		fmt.Fprintf(w, "- %s: **not installed, left out**\n", name)
	}
	for _, res := range r.Workloads {
		what := cmp.Or(res.What, fmt.Sprintf("%d files, %s", res.Files, formatMB(float64(res.Bytes))))
		fmt.Fprintf(w, "\n### %s: %s\n\n|", res.Name, what)
		tools := slices.DeleteFunc(slices.Clone(r.Tools), func(t toolInfo) bool {
			return !slices.ContainsFunc(res.Samples, func(s *sample) bool { return s.Tool == t.Name })
		})
		for _, t := range tools {
			fmt.Fprintf(w, " | %s", t.Name)
		}
		fmt.Fprintf(w, " |\n|---|%s\n", strings.Repeat("---:|", len(tools)))
		for _, row := range rowsOf(res.Name) {
			base := res.median(baseline, row.value)
			fmt.Fprintf(w, "| %s", row.name)
			for _, t := range tools {
				fmt.Fprintf(w, " | %s", row.cell(res.median(t.Name, row.value), base, t.Name == baseline))
			}
			fmt.Fprintln(w, " |")
		}
	}
	r.printTargets(w)
}
