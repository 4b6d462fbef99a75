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
	Tools     []toolInfo        `json:"tools"`
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

func firstBytes(s *sample) float64 { return float64(s.FirstBytes) }

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
	}
	return treeRows
}

var treeRows = []row{
	{"first snapshot", wallOf(stepFirst), formatSeconds, true},
	{"… CPU", cpuOf(stepFirst), formatSeconds, true},
	{"… stored", firstBytes, formatMB, false},
	{"unchanged", wallOf(stepUnchanged), formatSeconds, true},
	{"… CPU", cpuOf(stepUnchanged), formatSeconds, true},
	{"1 % edited", wallOf(stepChanged), formatSeconds, true},
	{"… CPU", cpuOf(stepChanged), formatSeconds, true},
	{"… added", func(s *sample) float64 { return float64(s.ChangedBytes) }, formatMB, false},
	{"restore to tmpfs", wallOf(stepRestore), formatSeconds, true},
	{"… CPU", cpuOf(stepRestore), formatSeconds, true},
	{"check, reading all", wallOf(stepCheck), formatSeconds, true},
	{"… CPU", cpuOf(stepCheck), formatSeconds, true},
	{"peak anonymous memory", peakAnon, formatMiB, false},
	{"peak resident memory", peakRSS, formatMiB, false},
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

// print writes the report as Markdown.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d cores, Linux %s, %s; medians of %d runs; ratios to %s.\n",
		cmp.Or(r.Machine.CPU, "unknown processor"), r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Runs, baseline)
	for _, t := range r.Tools {
		fmt.Fprintf(w, "- %s: %s\n", t.Name, t.Version)
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

// A target is a number that cairn is held to: a speed or a size against that of
// the baseline, or an absolute limit.
type target struct {
	workload string
	what     string
	value    func(*sample) float64
	faster   float64 // at least so many times as fast
	size     float64 // at most this fraction of the size
	limit    float64 // less than so many bytes
	least    float64 // at least this, whatever the baseline does
}

var targets = []target{
	{workload: "tree", what: "first snapshot", value: wallOf(stepFirst), faster: 2},
	{workload: "tree", what: "stored", value: firstBytes, size: 1.04},
	{workload: "tree", what: "unchanged", value: wallOf(stepUnchanged), faster: 3},
	{workload: "tree", what: "restore to tmpfs", value: wallOf(stepRestore), faster: 1.3},
	{workload: "tree", what: "peak anonymous memory", value: peakAnon, limit: 128 << 20},
	{workload: "small", what: "first snapshot", value: wallOf(stepFirst), faster: 3},
	{workload: "small", what: "stored", value: firstBytes, size: 0.8},
	{workload: "small", what: "unchanged", value: wallOf(stepUnchanged), faster: 3},
	{workload: "small", what: "restore to tmpfs", value: wallOf(stepRestore), faster: 1.3},
	{workload: "small", what: "peak anonymous memory", value: peakAnon, limit: 128 << 20},
	{workload: "forget", what: "forget", value: wallOf(stepForget), faster: 10},
	{workload: "prune", what: "prune", value: wallOf(stepPrune), faster: 3},
	{workload: "prune", what: "a snapshot's speed beside it", value: relativeSpeed, least: 0.5},
}

// judge compares a tool's value with the target and returns the demand, what is,
// and whether that is enough.
func (t target) judge(v, base float64) (demand, is string, ok bool) {
	switch {
	case t.faster > 0:
		return fmt.Sprintf("≥ %.1f×", t.faster), fmt.Sprintf("%.2f×", base/v), base/v >= t.faster
	case t.size > 0:
		return fmt.Sprintf("≤ %.0f %%", 100*t.size), fmt.Sprintf("%.1f %%", 100*v/base), v/base <= t.size
	case t.least > 0:
		return "≥ " + formatPercent(t.least), formatPercent(v), v >= t.least
	default:
		return "< " + formatMiB(t.limit), formatMiB(v), v < t.limit
	}
}

// printTargets writes how cairn stands, if it and the baseline ran.
func (r *report) printTargets(w io.Writer) {
	headed := false
	for _, t := range targets {
		i := slices.IndexFunc(r.Workloads, func(res *workloadResult) bool { return res.Name == t.workload })
		if i < 0 {
			continue
		}
		base := r.Workloads[i].median(baseline, t.value)
		for _, tool := range r.Tools {
			v := r.Workloads[i].median(tool.Name, t.value)
			if !strings.HasPrefix(tool.Name, "cairn") || v == 0 || base == 0 && t.least == 0 {
				continue
			}
			if !headed {
				fmt.Fprint(w, "\n### Targets\n\n| | | column | target | is | |\n|---|---|---|---:|---:|---|\n")
				headed = true
			}
			demand, is, ok := t.judge(v, base)
			verdict := "pass"
			if !ok {
				verdict = "**FAIL**"
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", t.workload, t.what, tool.Name, demand, is, verdict)
		}
	}
}
