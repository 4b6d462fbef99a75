package fsmeta

import (
	"os/user"
	"strconv"
	"sync"
)

// Owners translates between the numbers and the names of users and groups, and
// remembers each answer: without cgo, package os/user reads /etc/passwd or
// /etc/group from the start for every question. It never forgets, so one that
// lives long would miss changes; make a new one for each run. It may be used from
// many goroutines. See NewOwners.
type Owners struct {
	users, groups directory
}

// NewOwners returns an empty cache in front of the system's user database.
func NewOwners() *Owners {
	return &Owners{
		users: directory{
			nameOf: func(id string) (string, error) {
				u, err := user.LookupId(id)
				if err != nil {
					return "", err
				}
				return u.Username, nil
			},
			idOf: func(name string) (string, error) {
				u, err := user.Lookup(name)
				if err != nil {
					return "", err
				}
				return u.Uid, nil
			},
		},
		groups: directory{
			nameOf: func(id string) (string, error) {
				g, err := user.LookupGroupId(id)
				if err != nil {
					return "", err
				}
				return g.Name, nil
			},
			idOf: func(name string) (string, error) {
				g, err := user.LookupGroup(name)
				if err != nil {
					return "", err
				}
				return g.Gid, nil
			},
		},
	}
}

// User returns the name of a user, "" if it has none.
func (o *Owners) User(uid uint32) string { return o.users.name(uid) }

// Group returns the name of a group, "" if it has none.
func (o *Owners) Group(gid uint32) string { return o.groups.name(gid) }

// UID returns the number of a user, and false if there is no such user.
func (o *Owners) UID(name string) (uint32, bool) { return o.users.id(name) }

// GID returns the number of a group, and false if there is no such group.
func (o *Owners) GID(name string) (uint32, bool) { return o.groups.id(name) }

// directory is a cache in front of two look-ups. A look-up that fails counts as
// "there is none", and is remembered too: a directory server that is down must not
// hold up every single file.
type directory struct {
	nameOf func(id string) (string, error)
	idOf   func(name string) (string, error)

	mu    sync.RWMutex
	names map[uint32]string
	ids   map[string]foundID
}

type foundID struct {
	id uint32
	ok bool
}

func (d *directory) name(id uint32) string {
	d.mu.RLock()
	name, ok := d.names[id]
	d.mu.RUnlock()
	if ok {
		return name
	}
	name, err := d.nameOf(strconv.FormatUint(uint64(id), 10))
	if err != nil {
		name = ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil {
		d.names = make(map[uint32]string)
	}
	d.names[id] = name
	return name
}

func (d *directory) id(name string) (uint32, bool) {
	if name == "" {
		return 0, false
	}
	d.mu.RLock()
	found, ok := d.ids[name]
	d.mu.RUnlock()
	if ok {
		return found.id, found.ok
	}
	if s, err := d.idOf(name); err == nil {
		n, err := strconv.ParseUint(s, 10, 32)
		found = foundID{uint32(n), err == nil}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids == nil {
		d.ids = make(map[string]foundID)
	}
	d.ids[name] = found
	return found.id, found.ok
}
