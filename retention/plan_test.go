package retention_test

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/retention"
)

// someInput returns snapshots of two hosts. Some have times that can't be right, some
// were forgotten.
func someInput(rng *rand.Rand, zone *time.Location) *retention.Input {
	in := &retention.Input{Zone: zone, GroupBy: retention.GroupBy{Host: rng.IntN(2) > 0}, Forgotten: make(map[retention.ID][]retention.ID)}
	at := time.Date(2025, 10, 20, 0, 0, 0, 0, time.UTC).Add(time.Duration(rng.IntN(1000)) * time.Hour)
	step := []time.Duration{10 * time.Minute, 2 * time.Hour, 40 * time.Hour, 900 * time.Hour}[rng.IntN(4)]
	var before []retention.ID
	for n := range 1 + rng.IntN(60) {
		at = at.Add(time.Duration(rng.Int64N(int64(step))))
		it := retention.Item{Time: at, Stored: at.Add(time.Duration(rng.IntN(3)) * time.Minute), Host: string('a' + rune(rng.IntN(2)))}
		binary.BigEndian.PutUint32(it.ID[:], uint32(n+1))
		switch rng.IntN(12) {
		case 0:
			it.Time = it.Time.Add(time.Duration(rng.IntN(100)-50) * time.Hour)
		case 1:
			it.TimeGiven = true
		case 2:
			it.Tags = []string{"x"}
		case 3:
			it.Tags = []string{"pin:why"}
		}
		if before != nil && rng.IntN(8) > 0 {
			it.Links = before[max(0, len(before)-1-rng.IntN(2)):]
		}
		before = append(before, it.ID)
		if rng.IntN(6) == 0 {
			in.Forgotten[it.ID] = it.Links
			continue
		}
		in.Items = append(in.Items, it)
	}
	in.Now = at
	return in
}

func somePolicy(rng *rand.Rand) *retention.Policy {
	p := new(retention.Policy)
	for _, c := range counts(p) {
		if rng.IntN(3) == 0 {
			*c = retention.Count(rng.IntN(8) - 1)
		}
	}
	for _, s := range []*retention.Span{&p.Within, &p.WithinHourly, &p.WithinDaily, &p.WithinWeekly, &p.WithinMonthly, &p.WithinYearly} {
		if rng.IntN(8) == 0 {
			*s = retention.Span{Months: rng.IntN(3), Days: rng.IntN(20), Hours: rng.IntN(30)}
		}
	}
	if rng.IntN(5) == 0 {
		p.Tags = []string{"x"}
	}
	return p
}

func counts(p *retention.Policy) []*retention.Count {
	return []*retention.Count{&p.Last, &p.Hourly, &p.Daily, &p.Weekly, &p.Monthly, &p.Yearly}
}

// kept returns what stays.
func kept(plan *retention.Plan) map[retention.ID]*retention.Decision {
	ids := make(map[retention.ID]*retention.Decision)
	for _, d := range plan.Decisions() {
		if d.Keep {
			ids[d.Item.ID] = d
		}
	}
	return ids
}

// checkPlan holds a policy to what must hold of any.
func checkPlan(t *testing.T, rng *rand.Rand, p *retention.Policy, in *retention.Input) {
	t.Helper()
	if p.Validate() != nil {
		return
	}
	plan := retention.Apply(p, in)
	before := kept(plan)
	if n := len(plan.Decisions()); n != len(in.Items) {
		t.Fatalf("%d decisions about %d snapshots", n, len(in.Items))
	}
	for _, d := range plan.Decisions() {
		if d.Keep != (len(d.Reasons) > 0) || d.Implausible && (!d.Keep || len(d.Reasons) > 1) || retention.IsPinned(d.Item.Tags) && !d.Keep {
			t.Fatalf("decision %+v about %+v", d, d.Item)
		}
	}
	// To apply it again removes nothing.
	again := *in
	again.Items, again.Forgotten = nil, maps.Clone(in.Forgotten)
	for _, it := range in.Items {
		if before[it.ID] != nil {
			again.Items = append(again.Items, it)
		} else {
			again.Forgotten[it.ID] = it.Links
		}
	}
	if after := kept(retention.Apply(p, &again)); len(after) != len(before) {
		t.Fatalf("%+v keeps %d of %d, and %d of these", p, len(before), len(in.Items), len(after))
	}
	// To raise a count removes nothing that stayed.
	more := *p
	if c := counts(&more)[rng.IntN(6)]; *c != retention.Unlimited {
		*c++
		if rng.IntN(4) == 0 {
			*c = retention.Unlimited
		}
	}
	after := kept(retention.Apply(&more, in))
	for id := range before {
		if after[id] == nil {
			t.Fatalf("%+v keeps %x, and %+v does not", p, id[:4], more)
		}
	}
	// The order of what goes in is all the same.
	shuffled := *in
	shuffled.Items = slices.Clone(in.Items)
	rng.Shuffle(len(shuffled.Items), func(i, j int) {
		shuffled.Items[i], shuffled.Items[j] = shuffled.Items[j], shuffled.Items[i]
	})
	other := kept(retention.Apply(p, &shuffled))
	for id, d := range before {
		if other[id] == nil || !slices.Equal(other[id].Reasons, d.Reasons) {
			t.Fatalf("in another order %x is kept by %v and not by %v", id[:4], other[id], d.Reasons)
		}
	}
}

func TestPlansOfAnyPolicy(t *testing.T) {
	var zones []*time.Location
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"} {
		z, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, z)
	}
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		in := someInput(rng, zones[rng.IntN(len(zones))])
		checkPlan(t, rng, somePolicy(rng), in)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestNobodyPushesOut lets a host that was taken over add snapshots of any time and with
// any links after the good ones. None of these that was kept before goes because of them
// but those of the last day and of the one that it began in.
func TestNobodyPushesOut(t *testing.T) {
	policy := &retention.Policy{Daily: retention.Unlimited, Weekly: 5}
	pushed := 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		in := &retention.Input{Zone: time.UTC, GroupBy: retention.GroupBy{Host: true}}
		at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
		id := func() (id retention.ID) {
			binary.BigEndian.PutUint32(id[:], rng.Uint32())
			return id
		}
		for n := range 100 {
			at = at.Add(time.Duration(rng.IntN(30)) * time.Hour)
			it := retention.Item{ID: id(), Time: at, Stored: at.Add(time.Minute)}
			if n > 0 {
				it.Links = []retention.ID{in.Items[n-1].ID}
			}
			in.Items = append(in.Items, it)
		}
		good := kept(retention.Apply(policy, in))
		for range 300 {
			back := time.Duration(rng.Int64N(int64(at.Sub(in.Items[0].Time)))) - 2*time.Hour
			it := retention.Item{ID: id(), Time: at.Add(-back), Stored: at.Add(time.Hour)}
			if rng.IntN(2) == 0 {
				it.Links = []retention.ID{in.Items[rng.IntN(len(in.Items))].ID}
			}
			in.Items = append(in.Items, it)
		}
		after := kept(retention.Apply(policy, in))
		for id, d := range good {
			if after[id] != nil {
				continue
			}
			pushed++
			if at.Sub(d.Item.Time) > 48*time.Hour && d.Reasons[0] != "weekly" { // its day may have begun a day before
				t.Errorf("seed %d: %s of %s went, %v before the newest", seed, d.Reasons, d.Item.Time, at.Sub(d.Item.Time))
			}
		}
	}
	if pushed == 0 {
		t.Error("nothing went at all: the attack is none")
	}
}

func FuzzApply(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed, uint64(1))
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		rng := rand.New(rand.NewPCG(a, b))
		checkPlan(t, rng, somePolicy(rng), someInput(rng, time.UTC))
	})
}

// A circle of links, that hashes can't make, ends.
func TestCircle(t *testing.T) {
	a, b := retention.ID{1}, retention.ID{2}
	in := &retention.Input{Zone: time.UTC, Items: []retention.Item{
		{ID: a, Links: []retention.ID{b, a}}, {ID: b, Links: []retention.ID{a}},
	}}
	if len(retention.Apply(&retention.Policy{Last: 1}, in).Decisions()) != 2 {
		t.Error("snapshots are lost")
	}
}
