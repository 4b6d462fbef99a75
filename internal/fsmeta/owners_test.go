package fsmeta_test

import (
	"errors"
	"os/user"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cairn-backup/cairn/internal/fsmeta"
)

func TestOwnersOfTheSystem(t *testing.T) {
	root, err := user.LookupId("0")
	must(t, err)
	group, err := user.LookupGroupId("0")
	must(t, err)
	o := fsmeta.NewOwners()
	for range 2 {
		if got := o.User(0); got != root.Username {
			t.Errorf("user 0: %q", got)
		}
		if got := o.Group(0); got != group.Name {
			t.Errorf("group 0: %q", got)
		}
		if id, ok := o.UID(root.Username); id != 0 || !ok {
			t.Errorf("%s: %d, %v", root.Username, id, ok)
		}
		if id, ok := o.GID(group.Name); id != 0 || !ok {
			t.Errorf("group %s: %d, %v", group.Name, id, ok)
		}
		if got := o.User(4294967001); got != "" {
			t.Errorf("nobody's number: %q", got)
		}
		if id, ok := o.UID("no such user, I hope"); ok {
			t.Errorf("nobody's name: %d", id)
		}
	}
}

func TestOwnersAskOnce(t *testing.T) {
	var asked atomic.Int64
	o := fsmeta.NewCountedOwners(func(id string) (string, error) {
		asked.Add(1)
		if id == "3" {
			return "", errors.New("no")
		}
		return "name" + id, nil
	}, func(name string) (string, error) {
		asked.Add(1)
		switch name {
		case "gone":
			return "", errors.New("no")
		case "odd":
			return "S-1-5-21", nil
		}
		return strconv.Itoa(len(name)), nil
	})
	for range 3 {
		if o.User(1) != "name1" || o.User(3) != "" || o.Group(1) != "name1" {
			t.Error("wrong name")
		}
		if id, ok := o.UID("ab"); id != 2 || !ok {
			t.Errorf("%d, %v", id, ok)
		}
		if _, ok := o.UID("gone"); ok {
			t.Error("found what is not there")
		}
		if _, ok := o.GID("odd"); ok {
			t.Error("took a bad number")
		}
		if _, ok := o.GID(""); ok {
			t.Error("found a group without a name")
		}
	}
	if n := asked.Load(); n != 6 {
		t.Errorf("asked %d times for 6 things", n)
	}
	var all sync.WaitGroup
	for i := range uint32(8) {
		all.Go(func() {
			for j := range uint32(200) {
				o.User((i + j) % 50)
				o.UID(strconv.Itoa(int(j % 50)))
			}
		})
	}
	all.Wait()
}
