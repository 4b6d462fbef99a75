package fsmeta_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/need"
)

// needXattrs skips the test where files can't have attributes.
func needXattrs(t *testing.T, tr tree) {
	t.Helper()
	tr.write(t, "probe", "", 0o600)
	defer os.Remove(tr.join("probe"))
	if err := fsmeta.SetXattrAt(tr.Fd(), "probe", fsmeta.Xattr{Name: "user.probe", Value: []byte("x")}); err != nil {
		need.Missing(t, "the file system of %s takes no extended attributes: %v", tr.path, err)
	}
}

// userXattrs drops what the system may add, such as SELinux labels.
func userXattrs(xs []fsmeta.Xattr) []fsmeta.Xattr {
	return slices.DeleteFunc(xs, func(x fsmeta.Xattr) bool { return strings.HasPrefix(x.Name, "security.") })
}

func equalXattrs(a, b []fsmeta.Xattr) bool {
	return slices.EqualFunc(a, b, func(a, b fsmeta.Xattr) bool {
		return a.Name == b.Name && bytes.Equal(a.Value, b.Value)
	})
}

func TestXattrs(t *testing.T) {
	tr := newTree(t)
	needXattrs(t, tr)
	tr.write(t, "none", "", 0o644)
	tr.write(t, "some", "", 0o644)
	tr.write(t, "names", "", 0o644)
	must(t, os.Mkdir(tr.join("dir"), 0o755))
	must(t, os.Symlink("some", tr.join("symlink")))

	some := []fsmeta.Xattr{
		{Name: "user.a", Value: []byte("1")},
		{Name: "user.empty", Value: []byte{}},
		{Name: "user.large", Value: bytes.Repeat([]byte("\x00\xff"), 1000)},
		{Name: "user.z", Value: []byte("\x00")},
	}
	for _, i := range []int{3, 0, 2, 1} {
		must(t, fsmeta.SetXattrAt(tr.Fd(), "some", some[i]))
	}
	dir := []fsmeta.Xattr{{Name: "user.d", Value: []byte("dir")}}
	must(t, fsmeta.SetXattrAt(tr.Fd(), "dir", dir[0]))
	var names []fsmeta.Xattr // more than fit a first buffer
	for i := range 12 {
		x := fsmeta.Xattr{Name: fmt.Sprintf("user.%02d.%s", i, strings.Repeat("n", 120)), Value: []byte{byte(i)}}
		must(t, fsmeta.SetXattrAt(tr.Fd(), "names", x))
		names = append(names, x)
	}

	for name, want := range map[string][]fsmeta.Xattr{"none": nil, "some": some, "names": names, "dir": dir, "symlink": nil} {
		got, err := fsmeta.XattrsAt(tr.Fd(), name)
		if got = userXattrs(got); err != nil || !equalXattrs(got, want) {
			t.Errorf("XattrsAt %s: %q, %v", name, got, err)
		}
		if name == "symlink" {
			continue
		}
		f, err := os.Open(tr.join(name))
		must(t, err)
		got, err = fsmeta.Xattrs(int(f.Fd()))
		if got = userXattrs(got); err != nil || !equalXattrs(got, want) {
			t.Errorf("Xattrs %s: %q, %v", name, got, err)
		}
		f.Close()
	}
	if got, err := fsmeta.XattrsAt(unix.AT_FDCWD, tr.join("some")); err != nil || !equalXattrs(userXattrs(got), some) {
		t.Errorf("by path: %q, %v", got, err)
	}
	if _, err := fsmeta.XattrsAt(tr.Fd(), "gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	f, err := os.Open(tr.join("none"))
	must(t, err)
	defer f.Close()
	if got, _ := fsmeta.Xattrs(int(f.Fd())); got == nil {
		if n := testing.AllocsPerRun(100, func() { fsmeta.Xattrs(int(f.Fd())) }); n != 0 {
			t.Errorf("%v allocations for a file without attributes", n)
		}
	}
}

// TestXattrsUnreadable lists names of attributes whose values are not for everybody.
func TestXattrsUnreadable(t *testing.T) {
	tr := newTree(t)
	needXattrs(t, tr)
	tr.write(t, "file", "", 0o600)
	must(t, fsmeta.SetXattrAt(tr.Fd(), "file", fsmeta.Xattr{Name: "user.secret", Value: []byte("x")}))
	must(t, os.Chmod(tr.join("file"), 0)) // also keeps its owner, if that is not root, from reading
	asNobody(t, func() {
		got, err := fsmeta.XattrsAt(tr.Fd(), "file")
		xe, ok := errors.AsType[*fsmeta.XattrError](err)
		if len(userXattrs(got)) != 0 || !ok || xe.Name != "user.secret" || xe.Op != "read" || !errors.Is(err, os.ErrPermission) {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestXattrsUnsupported(t *testing.T) {
	fd, err := fsmeta.OpenDirAt(unix.AT_FDCWD, "/proc/self")
	if err != nil {
		// /proc/self is itself a link, which is not followed.
		fd, err = fsmeta.OpenDirAt(unix.AT_FDCWD, fmt.Sprintf("/proc/%d", os.Getpid()))
	}
	must(t, err)
	defer unix.Close(fd)
	if got, err := fsmeta.XattrsAt(fd, "status"); len(userXattrs(got)) != 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := fsmeta.SetXattrAt(fd, "status", fsmeta.Xattr{Name: "user.x"}); err == nil {
		t.Error("set an attribute in /proc")
	}
}
