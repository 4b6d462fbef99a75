package fsmeta_test

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/need"
)

func TestChmodAt(t *testing.T) {
	for call, chmod := range map[string]func(int, string, uint32) error{
		"ChmodAt": fsmeta.ChmodAt, "on old kernels": fsmeta.ChmodPinned,
	} {
		t.Run(call, func(t *testing.T) {
			tr := newTree(t)
			tr.write(t, "file", "", 0o644)
			must(t, os.Mkdir(tr.join("dir"), 0o755))
			must(t, os.Symlink("file", tr.join("symlink")))
			must(t, tr.Mknod("fifo", unix.S_IFIFO|0o600, 0))
			for _, name := range []string{"file", "dir", "fifo"} {
				for _, mode := range []uint32{0, 0o751, 0o1700, 0o4755} {
					must(t, chmod(tr.Fd(), name, mode))
					if st, err := tr.Stat(name); err != nil || st.Perm() != mode {
						t.Errorf("%s: %o, want %o (%v)", name, st.Perm(), mode, err)
					}
				}
			}
			if err := chmod(tr.Fd(), "symlink", 0o777); !errors.Is(err, unix.EOPNOTSUPP) {
				t.Errorf("symbolic link: %v", err)
			}
			if st, _ := tr.Stat("file"); st.Perm() != 0o4755 {
				t.Errorf("the link's target changed to %o", st.Perm())
			}
			if err := chmod(tr.Fd(), "gone", 0); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("missing: %v", err)
			}
		})
	}
}

func TestSetTimes(t *testing.T) {
	tr := newTree(t)
	tr.write(t, "file", "", 0o644)
	must(t, os.Symlink("file", tr.join("symlink")))
	f, err := os.Open(tr.join("file"))
	must(t, err)
	defer f.Close()
	want := fsmeta.Time{Sec: -86400, Nsec: 123456789}
	must(t, fsmeta.SetTimes(int(f.Fd()), want))
	must(t, fsmeta.SetTimesAt(tr.Fd(), "symlink", fsmeta.Time{Sec: 5, Nsec: 999999999}))
	if st, _ := tr.Stat("file"); st.Mtime != want {
		t.Errorf("file: %v", st.Mtime)
	}
	if st, _ := tr.Stat("symlink"); st.Mtime != (fsmeta.Time{Sec: 5, Nsec: 999999999}) {
		t.Errorf("symbolic link: %v", st.Mtime)
	}
	// Not UTIME_NOW.
	must(t, fsmeta.SetTimesAt(tr.Fd(), "file", fsmeta.Time{Sec: 1, Nsec: unix.UTIME_NOW}))
	if st, _ := tr.Stat("file"); st.Mtime != (fsmeta.Time{Sec: 2, Nsec: 73741823}) {
		t.Errorf("magic nanoseconds: %v", st.Mtime)
	}
}

// byBoth runs f with Apply and with ApplyFd.
func byBoth(t *testing.T, f func(t *testing.T, tr tree, apply func(string, fsmeta.Meta, fsmeta.ApplyOptions) []error)) {
	t.Run("Apply", func(t *testing.T) {
		tr := newTree(t)
		f(t, tr, tr.Apply)
	})
	t.Run("ApplyFd", func(t *testing.T) {
		tr := newTree(t)
		f(t, tr, func(name string, m fsmeta.Meta, o fsmeta.ApplyOptions) []error {
			file, err := os.Open(tr.join(name))
			must(t, err)
			defer file.Close()
			return fsmeta.ApplyFd(int(file.Fd()), m, o)
		})
	})
}

func TestApply(t *testing.T) {
	byBoth(t, func(t *testing.T, tr tree, apply func(string, fsmeta.Meta, fsmeta.ApplyOptions) []error) {
		needXattrs(t, tr)
		tr.write(t, "file", "x", 0o600)
		must(t, os.Mkdir(tr.join("dir"), 0o700))
		m := fsmeta.Meta{
			UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
			Mtime:  fsmeta.Time{Sec: 1e9, Nsec: 7},
			Xattrs: []fsmeta.Xattr{{Name: "user.a", Value: []byte("1")}, {Name: "user.b", Value: []byte("2")}},
		}
		if isRoot() {
			m.UID, m.GID = 12345, 54321
		}
		for name, mode := range map[string]uint32{
			"file": unix.S_IFREG | 0o6455, // not writable, though user attributes need that
			"dir":  unix.S_IFDIR | 0o3555,
		} {
			m.Mode = mode
			if errs := apply(name, m, fsmeta.ApplyOptions{}); len(errs) > 0 {
				t.Fatal(errs)
			}
			st, err := tr.Stat(name)
			must(t, err)
			if st.Mode != mode || st.UID != m.UID || st.GID != m.GID || st.Mtime != m.Mtime {
				t.Errorf("%s: %+v, want mode %o", name, st, mode)
			}
			if xs, err := fsmeta.XattrsAt(tr.Fd(), name); err != nil || !equalXattrs(userXattrs(xs), m.Xattrs) {
				t.Errorf("%s: attributes %q, %v", name, xs, err)
			}
		}
	})
}

// What Apply gave is found to be applied, and any other state not.
func TestIsApplied(t *testing.T) {
	byBoth(t, func(t *testing.T, tr tree, apply func(string, fsmeta.Meta, fsmeta.ApplyOptions) []error) {
		needXattrs(t, tr)
		tr.write(t, "file", "x", 0o600)
		m := fsmeta.Meta{
			Mode: unix.S_IFREG | 0o640, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: fsmeta.Time{Sec: 1e9, Nsec: 7},
			Xattrs: []fsmeta.Xattr{{Name: "user.a", Value: []byte("1")}},
		}
		exact := fsmeta.ApplyOptions{ExactXattrs: true}
		is := func(m fsmeta.Meta, o fsmeta.ApplyOptions) bool {
			file, err := os.Open(tr.join("file"))
			must(t, err)
			defer file.Close()
			byFd, byName := fsmeta.IsAppliedFd(int(file.Fd()), m, o), fsmeta.IsApplied(tr.Fd(), "file", m, o)
			if byFd != byName {
				t.Errorf("by descriptor %v, by name %v", byFd, byName)
			}
			return byFd
		}
		if is(m, exact) {
			t.Error("applied before")
		}
		if errs := apply("file", m, exact); len(errs) > 0 {
			t.Fatal(errs)
		}
		if !is(m, exact) {
			t.Error("not applied after")
		}
		for what, edit := range map[string]func(*fsmeta.Meta){
			"mode":            func(m *fsmeta.Meta) { m.Mode ^= 1 },
			"type":            func(m *fsmeta.Meta) { m.Mode = unix.S_IFIFO | 0o640 },
			"owner":           func(m *fsmeta.Meta) { m.UID++ },
			"group":           func(m *fsmeta.Meta) { m.GID++ },
			"time":            func(m *fsmeta.Meta) { m.Mtime.Nsec++ },
			"attribute value": func(m *fsmeta.Meta) { m.Xattrs = []fsmeta.Xattr{{Name: "user.a", Value: []byte("2")}} },
			"attribute name":  func(m *fsmeta.Meta) { m.Xattrs = []fsmeta.Xattr{{Name: "user.b", Value: []byte("1")}} },
			"one more":        func(m *fsmeta.Meta) { m.Xattrs = append(m.Xattrs[:1:1], fsmeta.Xattr{Name: "user.b"}) },
			"one less":        func(m *fsmeta.Meta) { m.Xattrs = nil },
		} {
			other := m
			if edit(&other); is(other, exact) {
				t.Errorf("other %s: applied", what)
			}
		}
		m.Xattrs = nil
		if !is(m, fsmeta.ApplyOptions{}) {
			t.Error("an attribute too many counts, though it need not be exact")
		}
	})
}

func TestApplyCapability(t *testing.T) {
	need.Root(t)
	byBoth(t, func(t *testing.T, tr tree, apply func(string, fsmeta.Meta, fsmeta.ApplyOptions) []error) {
		needXattrs(t, tr)
		tr.write(t, "file", "x", 0o600)
		netBind := binary.LittleEndian.AppendUint32(nil, 0x02000001) // VFS_CAP_REVISION_2, effective
		for _, w := range []uint32{1 << 10, 0, 0, 0} {
			netBind = binary.LittleEndian.AppendUint32(netBind, w)
		}
		m := fsmeta.Meta{Mode: unix.S_IFREG | 0o755, UID: 1234, GID: 1234, Xattrs: []fsmeta.Xattr{{Name: "security.capability", Value: netBind}}}
		if errs := apply("file", m, fsmeta.ApplyOptions{ExactXattrs: true}); len(errs) > 0 {
			t.Fatal(errs)
		}
		xs, err := fsmeta.XattrsAt(tr.Fd(), "file")
		must(t, err)
		for _, x := range xs {
			if x.Name == "security.capability" && string(x.Value) == string(netBind) {
				return
			}
		}
		t.Errorf("the capability is gone: %q", xs)
	})
}

// accessList is an access control list: the owner, the user 1000, the group, the
// mask, all others.
func accessList() fsmeta.Xattr {
	v := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, ^uint32(0)}, {2, 4, 1000}, {4, 0, ^uint32(0)}, {16, 4, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		v = binary.LittleEndian.AppendUint16(v, e.tag)
		v = binary.LittleEndian.AppendUint16(v, e.perm)
		v = binary.LittleEndian.AppendUint32(v, e.id)
	}
	return fsmeta.Xattr{Name: "system.posix_acl_access", Value: v}
}

func TestApplyAccessList(t *testing.T) {
	byBoth(t, func(t *testing.T, tr tree, apply func(string, fsmeta.Meta, fsmeta.ApplyOptions) []error) {
		tr.write(t, "file", "x", 0o600)
		acl := accessList()
		if err := fsmeta.SetXattrAt(tr.Fd(), "file", acl); errors.Is(err, unix.EOPNOTSUPP) {
			need.Missing(t, "the file system has no access control lists")
		}
		must(t, os.Remove(tr.join("file")))
		tr.write(t, "file", "x", 0o600)
		m := fsmeta.Meta{Mode: unix.S_IFREG | 0o640, Xattrs: []fsmeta.Xattr{acl}}
		opts := fsmeta.ApplyOptions{NoOwner: true, ExactXattrs: true}
		if errs := apply("file", m, opts); len(errs) > 0 {
			t.Fatal(errs)
		}
		xs, err := fsmeta.XattrsAt(tr.Fd(), "file")
		if st, _ := tr.Stat("file"); err != nil || st.Perm() != 0o640 || !equalXattrs(userXattrs(xs), m.Xattrs) {
			t.Errorf("mode %o, attributes %q, %v", st.Perm(), xs, err)
		}
		// Without the list in m it goes, and the mode is still the one in m.
		m.Xattrs = nil
		if errs := apply("file", m, opts); len(errs) > 0 {
			t.Fatal(errs)
		}
		xs, err = fsmeta.XattrsAt(tr.Fd(), "file")
		if st, _ := tr.Stat("file"); err != nil || st.Perm() != 0o640 || len(userXattrs(xs)) > 0 {
			t.Errorf("mode %o, attributes %q, %v", st.Perm(), xs, err)
		}
	})
}

func TestApplyOptions(t *testing.T) {
	tr := newTree(t)
	needXattrs(t, tr)
	tr.write(t, "file", "x", 0o600)
	must(t, fsmeta.SetXattrAt(tr.Fd(), "file", fsmeta.Xattr{Name: "user.old", Value: []byte("1")}))
	m := fsmeta.Meta{
		Mode: unix.S_IFREG | 0o6755, UID: uint32(os.Getuid()) + 1, GID: uint32(os.Getgid()),
		Xattrs: []fsmeta.Xattr{{Name: "user.new", Value: []byte("2")}},
	}
	attributes := func() (names string) {
		xs, err := fsmeta.XattrsAt(tr.Fd(), "file")
		must(t, err)
		for _, x := range userXattrs(xs) {
			names += x.Name + " "
		}
		return names
	}

	if errs := tr.Apply("file", m, fsmeta.ApplyOptions{NoOwner: true, NoXattrs: true}); len(errs) > 0 {
		t.Fatal(errs)
	}
	st, err := tr.Stat("file")
	must(t, err)
	if st.UID != uint32(os.Getuid()) || attributes() != "user.old " {
		t.Errorf("owner %d, attributes %s", st.UID, attributes())
	}
	if st.Perm() != 0o2755 {
		t.Errorf("mode %o: the program would run with the rights of whoever restored it", st.Perm())
	}

	must(t, errors.Join(tr.Apply("file", m, fsmeta.ApplyOptions{NoOwner: true})...))
	if attributes() != "user.new user.old " {
		t.Errorf("attributes %s", attributes())
	}
	must(t, errors.Join(tr.Apply("file", m, fsmeta.ApplyOptions{NoOwner: true, ExactXattrs: true})...))
	if attributes() != "user.new " {
		t.Errorf("exact: attributes %s", attributes())
	}

	if isRoot() {
		must(t, os.Chown(tr.join("file"), 65534, os.Getgid()))
		m.UID = 65535
	}
	asNobody(t, func() {
		errs := tr.Apply("file", m, fsmeta.ApplyOptions{})
		if len(errs) != 1 || !errors.Is(errs[0], os.ErrPermission) {
			t.Errorf("as an ordinary user: %v", errs)
		}
	})
	if st, _ := tr.Stat("file"); st.Perm()&^0o2000 != 0o755 {
		t.Errorf("after a chown that failed: mode %o", st.Perm())
	}
}

func TestApplyNotRegular(t *testing.T) {
	tr := newTree(t)
	tr.write(t, "file", "x", 0o640)
	before, err := tr.Stat("file")
	must(t, err)
	must(t, tr.Symlink("file", "symlink"))
	must(t, tr.Mknod("fifo", unix.S_IFIFO|0o600, 0))
	for name, mode := range map[string]uint32{"symlink": unix.S_IFLNK | 0o777, "fifo": unix.S_IFIFO | 0o604} {
		m := fsmeta.Meta{Mode: mode, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: fsmeta.Time{Sec: 42, Nsec: 1}}
		if isRoot() {
			m.UID, m.GID = 7, 8
		}
		if errs := tr.Apply(name, m, fsmeta.ApplyOptions{ExactXattrs: true}); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
		}
		if st, _ := tr.Stat(name); st.Mode != mode || st.Mtime != m.Mtime || st.UID != m.UID || st.GID != m.GID {
			t.Errorf("%s: %+v", name, st)
		}
	}
	if after, _ := tr.Stat("file"); after != before {
		t.Errorf("the link's target changed: %+v, before %+v", after, before)
	}
}
