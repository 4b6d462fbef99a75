package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A target is a number that cairn is held to: a speed or a size against that of
// another tool, or an absolute limit.
type target struct {
	workload string
	what     string
	value    func(*sample) float64
	column   string  // of cairn; "": each that ran
	than     string  // the tool to compare with; "": the baseline
	faster   float64 // at least so many times as fast
	within   float64 // at most so many times as long
	plus     float64 // and so many seconds more
	size     float64 // at most this fraction of the size
	limit    float64 // less than so many bytes
	least    float64 // at least this, whatever the others do
}

var targets = slices.Concat([]target{
	{workload: "tree", what: "first snapshot", value: wallOf(stepFirst), column: "cairn", faster: 3},
	{workload: "tree", what: "… stored", value: firstBytes, column: "cairn", size: 1.02},
	{workload: "tree", what: "… of the time of tar and zstd -1", value: wallOf(stepFirst), column: "cairn", than: archiverName, within: 1.4},
	{workload: "tree", what: "first snapshot, default level", value: wallOf(stepFirst), column: "cairn-default", faster: 2.5},
	{workload: "tree", what: "… stored", value: firstBytes, column: "cairn-default", size: 0.98},
	{workload: "tree", what: "unchanged", value: wallOf(stepUnchanged), faster: 5},
	{workload: "tree", what: "restore to tmpfs", value: wallOf(stepRestore), faster: 2},
	{workload: "tree", what: "check, reading all", value: wallOf(stepCheck), faster: 1.8},
	{workload: "small", what: "first snapshot", value: wallOf(stepFirst), column: "cairn", faster: 5},
	{workload: "small", what: "… CPU", value: cpuOf(stepFirst), column: "cairn", size: 0.25},
	{workload: "small", what: "… stored", value: firstBytes, column: "cairn", size: 0.72},
	{workload: "small", what: "unchanged", value: wallOf(stepUnchanged), faster: 5},
	{workload: "dump", what: "second dump", value: wallOf(stepChanged), faster: 1},
	{workload: "dump", what: "… added", value: changedBytes, size: 1.0 / 12},
	{workload: "dump-stdin", what: "second dump", value: wallOf(stepChanged), faster: 1},
	{workload: "dump-stdin", what: "… added", value: changedBytes, size: 1.0 / 12},
}, memoryTargets(), []target{
	{workload: "forget", what: "forget", value: wallOf(stepForget), faster: 10},
	{workload: "prune", what: "prune", value: wallOf(stepPrune), faster: 3},
	{workload: "prune", what: "a snapshot's speed beside it", value: relativeSpeed, least: 0.5},
	{workload: "postgres", what: "first snapshot, of pg_dump to nowhere", value: wallOf(stepFirst), than: dumperName, within: 1.2, plus: 2},
	{workload: "postgres", what: "… 1 % of rows updated", value: wallOf(stepChanged), than: dumperName, within: 1.2, plus: 2},
	{workload: "postgres", what: "… added", value: changedBytes, size: 1.0 / 12},
	{workload: "postgres", what: "restore, of pg_restore", value: wallOf(stepRestore), than: dumperName, within: 1.15},
	{workload: "postgres", what: "peak anonymous memory", value: peakAnon, limit: 200 << 20},
})

// memoryTargets are the same for all that is backed up and restored.
func memoryTargets() (all []target) {
	for _, name := range []string{"tree", "small", "source", "dump", "dump-stdin", "vm", "random"} {
		all = append(all, target{workload: name, what: "peak anonymous memory", value: peakAnon, limit: 100 << 20})
	}
	return all
}

// judge compares a tool's value with the target and returns the demand, what is,
// and whether that is enough.
func (t target) judge(v, base float64) (demand, is string, ok bool) {
	switch {
	case t.faster > 0:
		return fmt.Sprintf("≥ %.1f×", t.faster), fmt.Sprintf("%.2f×", base/v), base/v >= t.faster
	case t.within > 0:
		demand, is := fmt.Sprintf("≤ %.3g×", t.within), fmt.Sprintf("%.2f×", v/base)
		if t.plus > 0 {
			demand += fmt.Sprintf(" and %.0f s", t.plus)
			is = fmt.Sprintf("%.2f s of %.2f s", v, base*t.within+t.plus)
		}
		return demand, is, v <= base*t.within+t.plus
	case t.size > 0:
		return fmt.Sprintf("≤ %.3g %%", 100*t.size), fmt.Sprintf("%.1f %%", 100*v/base), v/base <= t.size
	case t.least > 0:
		return "≥ " + formatPercent(t.least), formatPercent(v), v >= t.least
	default:
		return "< " + formatMiB(t.limit), formatMiB(v), v < t.limit
	}
}

// absolute reports whether the target is one that no other tool has a part in.
func (t target) absolute() bool { return t.limit > 0 || t.least > 0 }

// printTargets writes how cairn stands, as far as it and what it is compared with ran.
func (r *report) printTargets(w io.Writer) {
	headed := false
	for _, t := range targets {
		i := slices.IndexFunc(r.Workloads, func(res *workloadResult) bool { return res.Name == t.workload })
		if i < 0 {
			continue
		}
		base := r.Workloads[i].median(cmp.Or(t.than, baseline), t.value)
		for _, tool := range r.Tools {
			v := r.Workloads[i].median(tool.Name, t.value)
			if !strings.HasPrefix(tool.Name, "cairn") || t.column != "" && t.column != tool.Name || v == 0 || base == 0 && !t.absolute() {
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
