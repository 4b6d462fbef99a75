package ingest_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// compare checks that the snapshot has everything of a directory, as the file
// system shows it, but sockets, and nothing else.
func (v *view) compare(dir string) {
	w := v.w
	w.Helper()
	var want []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() == fs.ModeSocket {
			return err
		}
		if path != dir {
			want = append(want, path[len(dir)+1:])
		}
		e, ok := v.entries[path]
		if !ok {
			w.Errorf("%q is not in the snapshot", path)
			return nil
		}
		v.compareEntry(path, &e)
		return nil
	})
	w.must(err)
	slices.Sort(want)
	if got := v.below(dir); !slices.Equal(got, want) {
		w.Errorf("the snapshot has %d entries, want %d", len(got), len(want))
	}
}

func (v *view) compareEntry(path string, e *snapshot.Entry) {
	w := v.w
	w.Helper()
	var st unix.Stat_t
	w.must(unix.Lstat(path, &st))
	types := map[uint32]snapshot.Type{
		unix.S_IFREG: snapshot.File, unix.S_IFDIR: snapshot.Directory, unix.S_IFLNK: snapshot.Symlink,
		unix.S_IFIFO: snapshot.FIFO, unix.S_IFCHR: snapshot.CharDevice, unix.S_IFBLK: snapshot.BlockDevice,
	}
	if want := types[st.Mode&unix.S_IFMT]; e.Type != want {
		w.Errorf("%q: a %s, want a %s", path, e.Type, want)
		return
	}
	got := fmt.Sprintf("mode %o owner %d:%d mtime %v ctime %v inode %d partial %t",
		e.Mode, e.UID, e.GID, e.Mtime, e.Ctime, e.Inode, e.Partial)
	want := fmt.Sprintf("mode %o owner %d:%d mtime %v ctime %v inode %d partial %t",
		st.Mode&0o7777, st.Uid, st.Gid, snapshot.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)},
		snapshot.Time{Sec: st.Ctim.Sec, Nsec: uint32(st.Ctim.Nsec)}, st.Ino, false)
	if got != want {
		w.Errorf("%q: %s\nwant %s", path, got, want)
	}
	if linked := e.Type != snapshot.Directory && st.Nlink > 1; e.HasLink != linked {
		w.Errorf("%q: is said to have several names: %t", path, e.HasLink)
	}
	switch e.Type {
	case snapshot.Symlink:
		target, err := os.Readlink(path)
		w.must(err)
		if string(e.Target) != target {
			w.Errorf("%q points to %q, want %q", path, e.Target, target)
		}
	case snapshot.CharDevice, snapshot.BlockDevice:
		if e.Device != st.Rdev {
			w.Errorf("%q is device %x, want %x", path, e.Device, st.Rdev)
		}
	case snapshot.File:
		v.compareFile(path, e)
	}
	v.compareXattrs(path, e)
}

// compareXattrs compares what the system lists; the engine may not add any.
func (v *view) compareXattrs(path string, e *snapshot.Entry) {
	v.w.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) {
		n = 0
	} else {
		v.w.must(err)
	}
	want := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	if n == 0 {
		want = nil
	}
	slices.Sort(want)
	var got []string
	for _, x := range e.Xattrs {
		got = append(got, x.Name)
		n, err := unix.Lgetxattr(path, x.Name, buf)
		v.w.must(err)
		if !bytes.Equal(x.Value, buf[:n]) {
			v.w.Errorf("%q: attribute %s has another value", path, x.Name)
		}
	}
	if !slices.Equal(got, want) {
		v.w.Errorf("%q has the attributes %q, want %q", path, got, want)
	}
}

func (v *view) compareFile(path string, e *snapshot.Entry) {
	v.w.Helper()
	want, err := os.ReadFile(path)
	v.w.must(err)
	if e.Size != uint64(len(want)) {
		v.w.Errorf("%q has %d bytes, want %d", path, e.Size, len(want))
	}
	v.wantContents(path, want)
	if got, want := e.Hash, v.contentHash(e, want); got != want {
		v.w.Errorf("%q has content hash %x, want %x", path, got, want)
	}
}

// contentHash is docs/format.md, section 10, in other words.
func (v *view) contentHash(e *snapshot.Entry, contents []byte) (sum [16]byte) {
	v.w.Helper()
	if len(contents) == 0 {
		return sum
	}
	keys, err := v.repo.WriteKeys()
	v.w.must(err)
	h, err := blake3.NewKeyed(keys.ContentHash[:])
	v.w.must(err)
	if len(contents) < 262144 {
		h.Write(append([]byte{0}, contents...))
	} else {
		h.Write([]byte{1})
		next := snapshot.Extents(v.w.Context(), v.repo, e)
		for x, err := next(); err != io.EOF; x, err = next() {
			v.w.must(err)
			h.Write(binary.LittleEndian.AppendUint64(x.Chunk[:], x.Length))
		}
	}
	copy(sum[:], h.Sum(nil))
	return sum
}

// zoo makes at least one of everything.
func (w *world) zoo() {
	w.Helper()
	w.write("a/small", []byte("hello"))
	w.write("a/empty", nil)
	w.must(os.MkdirAll(w.path("a/empty dir/deeper"), 0o700))
	w.must(os.Symlink("small", w.path("a/link")))
	w.must(os.Symlink("/nowhere/\xff\n", w.path("a/dangling")))
	w.must(os.Symlink(strings.Repeat("long/", 700), w.path("a/long link")))
	w.must(os.Symlink("..", w.path("a/loop")))
	w.must(unix.Mkfifo(w.path("fifo"), 0o640))
	w.must(unix.Mknod(w.path("socket"), unix.S_IFSOCK|0o600, 0))
	if err := unix.Mknod(w.path("null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		w.Logf("no device nodes are tested: %v", err)
	} else {
		w.must(unix.Mknod(w.path("loop0"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 300))))
	}
	w.modes()
	w.times()
	w.hardLinks()
	w.attributes()
	w.accessLists()
	if os.Geteuid() == 0 {
		w.rootsAttributes()
	}
	for _, name := range []string{"fifo", "a/dangling"} {
		w.must(os.Link(w.path(name), w.path(name+" again")))
	}
	// Equal files, next to each other and apart.
	for _, name := range []string{"same/1", "same/2", "same/3", "z/4"} {
		w.write(name, random(1, 3000))
	}
}

func (w *world) modes() {
	for mode, name := range map[uint32]string{0: "none", 0o4755: "setuid", 0o2755: "setgid", 0o1777: "sticky", 0o7777: "all", 0o400: "read"} {
		w.write("modes/"+name, []byte(name))
		w.must(os.Mkdir(w.path("modes/dir "+name), 0o755))
		if os.Geteuid() == 0 {
			w.must(os.Lchown(w.path("modes/"+name), 12345, 54321))
			w.must(os.Lchown(w.path("modes/dir "+name), 12345, 0))
		} else if mode&0o400 == 0 {
			mode |= 0o500
		}
		w.must(unix.Chmod(w.path("modes/"+name), mode))
		w.must(unix.Chmod(w.path("modes/dir "+name), mode))
	}
}

func (w *world) times() {
	for name, at := range map[string]time.Time{
		"old": time.Date(1903, 2, 3, 4, 5, 6, 7, time.UTC), "epoch": time.Unix(0, 1),
		"nano": time.Unix(1234567890, 999999999), "future": time.Date(2290, 1, 1, 0, 0, 0, 123, time.UTC),
	} {
		w.write("times/"+name, []byte(name))
		w.must(os.Chtimes(w.path("times/"+name), at, at))
		w.must(os.Symlink(name, w.path("times/link to "+name)))
		ts := []unix.Timespec{{Sec: 1}, {Sec: at.Unix(), Nsec: int64(at.Nanosecond())}}
		w.must(unix.UtimesNanoAt(unix.AT_FDCWD, w.path("times/link to "+name), ts, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func (w *world) hardLinks() {
	for name, size := range map[string]int{"empty": 0, "small": 100, "large": 700 << 10} {
		first := "links/" + name
		w.write(first, random(7, size))
		w.must(os.MkdirAll(w.path("links/sub"), 0o755))
		w.must(os.MkdirAll(w.path("y/z"), 0o755))
		for _, other := range []string{"links/0" + name, "links/sub/" + name, "y/z/" + name} {
			w.must(os.Link(w.path(first), w.path(other)))
		}
	}
}

func (w *world) attributes() {
	w.write("xattrs/file", []byte("x"))
	w.write("xattrs/large", random(3, 300<<10))
	w.must(os.Mkdir(w.path("xattrs/dir"), 0o755))
	w.must(os.Link(w.path("xattrs/file"), w.path("xattrs/name")))
	for _, name := range []string{"xattrs/file", "xattrs/large", "xattrs/dir", "xattrs"} {
		for attr, value := range map[string]string{"user.z": "", "user.a": "1", "user.binary": "\x00\xff\n", "user.long": strings.Repeat("v", 1000)} {
			if err := unix.Setxattr(w.path(name), attr, []byte(value), 0); errors.Is(err, unix.ENOTSUP) {
				need.Missing(w.T, "the file system has no extended attributes")
			} else {
				w.must(err)
			}
		}
	}
}

// accessLists gives a file and a directory POSIX access control lists.
func (w *world) accessLists() {
	list := func(entries ...[3]uint32) []byte { // tag, permissions, user or group
		b := binary.LittleEndian.AppendUint32(nil, 2) // POSIX_ACL_XATTR_VERSION
		for _, e := range entries {
			b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
			b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
			b = binary.LittleEndian.AppendUint32(b, e[2])
		}
		return b
	}
	const none = ^uint32(0)
	acl := list([3]uint32{0x01, 6, none}, [3]uint32{0x02, 5, 12345}, [3]uint32{0x04, 4, none}, [3]uint32{0x08, 6, 54321}, [3]uint32{0x10, 7, none}, [3]uint32{0x20, 0, none})
	w.write("acl/dir/file", []byte("x"))
	for name, attr := range map[string]string{"acl/dir/file": "system.posix_acl_access", "acl/dir": "system.posix_acl_default"} {
		if err := unix.Setxattr(w.path(name), attr, acl, 0); errors.Is(err, unix.ENOTSUP) {
			need.Missing(w.T, "the file system has no access control lists")
		} else {
			w.must(err)
		}
	}
}

// rootsAttributes are those that only root can set, of links and devices too.
func (w *world) rootsAttributes() {
	w.must(os.Symlink("nowhere", w.path("labelled")))
	capability := binary.LittleEndian.AppendUint32(nil, 0x02000001) // VFS_CAP_REVISION_2, effective
	capability = binary.LittleEndian.AppendUint64(capability, 1<<10)
	capability = binary.LittleEndian.AppendUint64(capability, 0)
	w.write("capable", []byte("x"))
	w.must(unix.Setxattr(w.path("capable"), "security.capability", capability, 0))
	for _, name := range []string{"labelled", "null", "fifo", "capable"} {
		if _, err := os.Lstat(w.path(name)); err != nil {
			continue // no device nodes, which is said above
		}
		w.must(unix.Lsetxattr(w.path(name), "trusted.of", []byte(name), 0))
	}
}

func TestEverythingComesBack(t *testing.T) {
	w := newWorld(t)
	w.zoo()
	o := w.snap()
	v := w.view(o.ID)
	v.compare(w.src)

	p := o.problem(t, w.path("socket"))
	if p.fatal || len(o.problems) != 1 || o.Partial || o.Totals.Unreadable != 0 {
		t.Errorf("a socket makes the snapshot partial, or there were other problems: %v", o.problems)
	}
	// All names of a file are in one group, and no other is in it.
	group := make(map[uint64]uint64)
	for path, e := range v.entries {
		if !e.HasLink {
			continue
		}
		if other, ok := group[e.Link]; ok && other != e.Inode {
			t.Errorf("%s is in the group of inode %d", path, other)
		}
		group[e.Link] = e.Inode
	}
	if len(group) != 6 {
		t.Errorf("%d groups of hard links, want 6", len(group))
	}
	// Equal neighbours share their bytes.
	one, two := v.entry(w.path("same/1")), v.entry(w.path("same/2"))
	if one.Extents[0] != two.Extents[0] || one.Hash != two.Hash {
		t.Errorf("equal files are stored twice: %v, %v", one.Extents, two.Extents)
	}
	var files, dirs, others, size uint64
	for _, e := range v.entries {
		switch e.Type {
		case snapshot.File:
			files, size = files+1, size+e.Size
		case snapshot.Directory:
			dirs++
		default:
			others++
		}
	}
	if got := o.Totals; got.Files != files || got.Dirs != dirs || got.Others != others || got.Bytes != size || got.New != files {
		t.Errorf("totals are %+v, want %d files of %d bytes, %d directories, %d others", got, files, size, dirs, others)
	}
	if v.info.Body.Totals != o.Totals {
		t.Errorf("the manifest has other totals: %+v", v.info.Body.Totals)
	}
}

func TestOwnersHaveNames(t *testing.T) {
	w := newWorld(t)
	w.write("file", nil)
	v := w.view(w.clean().ID)
	owners := fsmeta.NewOwners()
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	if e := v.entry(w.path("file")); e.User != owners.User(uid) || e.Group != owners.Group(gid) {
		t.Errorf("owned by %q:%q, want %q:%q", e.User, e.Group, owners.User(uid), owners.Group(gid))
	}
}

func TestOddNames(t *testing.T) {
	w := newWorld(t)
	for b := 1; b < 256; b++ {
		if b != '/' {
			w.write("two/x"+string([]byte{byte(b)}), []byte{byte(b)})
			w.write("dirs/"+string([]byte{byte(b), 'd'})+"/f", []byte{byte(b)})
		}
		if b != '/' && b != '.' {
			w.write("alone/"+string([]byte{byte(b)}), []byte{byte(b)})
		}
	}
	for _, name := range []string{"...", "a", "a b", "a\x01", "a/x", "-rf", "\xff\xfe", "\xc3\x28", strings.Repeat("n", 255), strings.Repeat("\xff", 255)} {
		w.write("more/"+strings.ReplaceAll(name, "a/x", "aa/x"), []byte(name))
	}
	w.must(os.MkdirAll(w.path("order/a"), 0o755))
	for _, name := range []string{"order/a/x", "order/a\x01", "order/a!", "order/a0"} {
		w.write(name, nil)
	}
	w.view(w.clean().ID).compare(w.src)
}

func TestSizes(t *testing.T) {
	w := newWorld(t)
	const bundled = 256 << 10
	sizes := []int{
		0, 1, 2, small.Min - 1, small.Min, small.Min + 1,
		bundled - 1, bundled, bundled + 1,
		small.Max - 1, small.Max, small.Max + 1, 2*small.Max - 1, 2 * small.Max, 2*small.Max + 1,
		5 << 20, // more than MaxExtents chunks
	}
	for i, n := range sizes {
		w.write(fmt.Sprintf("random/%d", n), random(uint64(i), n))
		w.write(fmt.Sprintf("zero/%d", n), make([]byte, n))
	}
	v := w.view(w.clean().ID)
	v.compare(w.src)
	if e := v.entry(w.path(fmt.Sprintf("random/%d", 5<<20))); e.List == nil || len(e.Extents) != 0 {
		t.Errorf("a file of 5 MiB has %d extents and no list", len(e.Extents))
	}
	for path, e := range v.entries {
		if len(e.Extents) > snapshot.MaxExtents {
			t.Errorf("%s has %d extents", path, len(e.Extents))
		}
	}
}

// TestDefaultChunks goes over the limits of the parameters that repositories
// have.
func TestDefaultChunks(t *testing.T) {
	w := newWorldOf(t, repo.Params{})
	for _, n := range []int{4<<20 - 1, 4 << 20, 4<<20 + 1} {
		w.write(fmt.Sprintf("zero/%d", n), make([]byte, n))
		w.write(fmt.Sprintf("random/%d", n), random(uint64(n), n))
	}
	w.view(w.clean().ID).compare(w.src)
}

// TestManySmallFiles fills several bundles from several directories.
func TestManySmallFiles(t *testing.T) {
	w := newWorld(t)
	for i := range 1500 {
		w.write(fmt.Sprintf("%02d/%d", i%90, i), random(uint64(i), i%3000))
	}
	for i := range 40 {
		w.write(fmt.Sprintf("%02d/large %d", i, i), random(uint64(i), 256<<10+i))
	}
	v := w.view(w.clean().ID)
	v.compare(w.src)
	if n := len(v.chunks(func(p string) bool { return !strings.Contains(p, "large") })); n > 30 {
		t.Errorf("1500 files of 2.2 MB are in %d chunks", n)
	}
}
