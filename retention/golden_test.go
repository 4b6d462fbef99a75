package retention_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the cases name zones

	"github.com/cairn-backup/cairn/retention"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// A case is a text: what goes in, a line "---", and what comes out.
//
//	# a comment
//	zone Europe/Berlin              UTC if it is left out
//	policy daily=3 within=1y tag=x  or preset=default
//	remove NAME...                  these, instead of a policy
//	group host,source
//	only host=a                     the policy looks at no others
//	now TIME                        2026-01-01T00:00:00Z if it is left out
//	show kept                       of what comes out
//	forgotten NAME links=NAME,NAME
//	snapshot NAME TIME [host=] [source=]... [tag=]... [stored=] [links=] [given] [imported] [restored]
//	every SPAN TIME TIME [host=]... snapshots from the first time to the second, each linked to the one before
//
// A NAME is the beginning of an ID, in hexadecimal digits. Snapshots are stored
// when they say, unless stored is given.
type goldenCase struct {
	in      retention.Input
	policy  retention.Policy
	remove  []retention.ID
	names   map[retention.ID]string
	kept    bool
	last    retention.ID // of every
	counter int
}

func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) < 25 {
		t.Fatalf("%d cases, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			in, want, _ := strings.Cut(string(b), "---\n")
			got := run(t, in)
			if got == want {
				return
			}
			if *update {
				if err := os.WriteFile(path, []byte(in+"---\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("got\n%swant\n%s", got, want)
		})
	}
}

func run(t *testing.T, text string) string {
	c := goldenCase{
		in:    retention.Input{Zone: time.UTC, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), GroupBy: retention.DefaultGroupBy, Forgotten: make(map[retention.ID][]retention.ID)},
		names: make(map[retention.ID]string),
	}
	for n, line := range strings.Split(text, "\n") {
		if words := strings.Fields(line); len(words) > 0 && words[0][0] != '#' {
			if err := c.read(words[0], words[1:]); err != nil {
				t.Fatalf("line %d: %v", n+1, err)
			}
		}
	}
	if c.remove != nil {
		return c.show(retention.Remove(c.remove, &c.in))
	}
	if err := c.policy.Validate(); err != nil {
		return fmt.Sprintf("refused: %v\n", err)
	}
	if unknown := c.policy.UnknownTags(c.in.Items); unknown != nil {
		return fmt.Sprintf("refused: unknown tags %q\n", unknown)
	}
	return c.show(retention.Apply(&c.policy, &c.in))
}

func (c *goldenCase) read(what string, words []string) (err error) {
	switch what {
	case "zone":
		c.in.Zone, err = time.LoadLocation(words[0])
	case "now":
		c.in.Now, err = time.Parse(time.RFC3339, words[0])
	case "group":
		c.in.GroupBy, err = retention.ParseGroupBy(words[0])
	case "show":
		c.kept = true
	case "only":
		host := strings.TrimPrefix(words[0], "host=")
		c.in.Chosen = func(it *retention.Item) bool { return it.Host == host }
	case "policy":
		for _, w := range words {
			if err := c.rule(w); err != nil {
				return err
			}
		}
	case "remove":
		for _, w := range words {
			c.remove = append(c.remove, c.id(w))
		}
	case "forgotten":
		var it retention.Item
		err = c.attributes(&it, words[1:])
		c.in.Forgotten[c.id(words[0])] = it.Links
	case "snapshot":
		it := retention.Item{ID: c.id(words[0])}
		if it.Time, err = time.Parse(time.RFC3339, words[1]); err != nil {
			return err
		}
		it.Stored = it.Time
		err = c.attributes(&it, words[2:])
		c.in.Items = append(c.in.Items, it)
	case "every":
		err = c.every(words)
	default:
		err = fmt.Errorf("what is %q?", what)
	}
	return err
}

func (c *goldenCase) every(words []string) error {
	step, err := time.ParseDuration(words[0])
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, words[1])
	if err != nil {
		return err
	}
	end, err := time.Parse(time.RFC3339, words[2])
	for ; !at.After(end) && err == nil; at = at.Add(step) {
		c.counter++
		it := retention.Item{ID: c.id(fmt.Sprintf("%04x", c.counter)), Time: at, Stored: at}
		if c.last != (retention.ID{}) {
			it.Links = []retention.ID{c.last}
		}
		c.last = it.ID
		err = c.attributes(&it, words[3:])
		c.in.Items = append(c.in.Items, it)
	}
	return err
}

func (c *goldenCase) id(name string) (id retention.ID) {
	b, err := hex.DecodeString(name)
	if err != nil {
		panic(err)
	}
	copy(id[:], b)
	c.names[id] = name
	return id
}

func (c *goldenCase) attributes(it *retention.Item, words []string) (err error) {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "host":
			it.Host = value
		case "source":
			it.Sources = append(it.Sources, value)
		case "tag":
			it.Tags = append(it.Tags, value)
		case "links":
			for _, l := range strings.Split(value, ",") {
				it.Links = append(it.Links, c.id(l))
			}
		case "stored":
			it.Stored = time.Time{}
			if value != "?" {
				it.Stored, err = time.Parse(time.RFC3339, value)
			}
		case "given":
			it.TimeGiven = true
		case "imported":
			it.Imported = true
		case "restored":
			it.Restored = true
		default:
			return fmt.Errorf("what is %q?", w)
		}
	}
	return err
}

func (c *goldenCase) rule(w string) (err error) {
	p := &c.policy
	key, value, _ := strings.Cut(w, "=")
	counts := map[string]*retention.Count{"last": &p.Last, "hourly": &p.Hourly, "daily": &p.Daily, "weekly": &p.Weekly, "monthly": &p.Monthly, "yearly": &p.Yearly}
	spans := map[string]*retention.Span{
		"within": &p.Within, "within-hourly": &p.WithinHourly, "within-daily": &p.WithinDaily, "within-weekly": &p.WithinWeekly,
		"within-monthly": &p.WithinMonthly, "within-yearly": &p.WithinYearly,
	}
	switch {
	case counts[key] != nil:
		*counts[key], err = retention.ParseCount(value)
	case spans[key] != nil:
		*spans[key], err = retention.ParseSpan(value)
	case key == "tag":
		p.Tags = append(p.Tags, value)
	case key == "preset":
		*p = retention.Presets[value]
	default:
		err = fmt.Errorf("what is %q?", w)
	}
	return err
}

func (c *goldenCase) show(p *retention.Plan) string {
	var b strings.Builder
	for _, g := range p.Groups {
		fmt.Fprintf(&b, "group host=%q sources=%q tags=%q %s: %d of %d go", g.Host, g.Sources, g.Tags, g.Kind, g.Removed(), len(g.Decisions))
		if g.LosesMost() {
			b.WriteString(", more than half")
		}
		b.WriteString("\n")
		for _, d := range g.Decisions {
			does := "keep"
			if !d.Keep {
				does = "go  "
			}
			if !d.Keep && c.kept {
				continue
			}
			at := d.Item.Time.In(c.in.Zone)
			line := fmt.Sprintf("%s %s %s  %s", does, c.names[d.Item.ID], at.Format("Mon 2006-01-02 15:04:05 -0700"), strings.Join(d.Reasons, "; "))
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	return b.String()
}

// TestGoldenCasesSayWhy holds all cases to what must hold of any plan.
func TestGoldenCasesSayWhy(t *testing.T) {
	paths, _ := filepath.Glob("testdata/*.txt")
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, out, ok := strings.Cut(string(b), "---\n")
		if !ok || out == "" {
			t.Errorf("%s has no result", path)
		}
		for _, line := range strings.Split(out, "\n") {
			words := strings.Fields(line)
			if slices.Contains([]string{"keep", "go"}, strings.Join(words[:min(1, len(words))], "")) && (words[0] == "keep") != (len(words) > 6) {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
}
