package pax_test

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/pax"
)

// people knows one user and one group.
type people struct{}

func (people) UID(name string) (uint32, bool) { return 1001, name == "ann" }
func (people) GID(name string) (uint32, bool) { return 2002, name == "crew" }

func text(xs []fsmeta.Xattr) string {
	var lines []string
	for _, x := range xs {
		lines = append(lines, fmt.Sprintf("%s=%q", x.Name, x.Value))
	}
	return strings.Join(lines, " ")
}

func TestXattrs(t *testing.T) {
	for _, test := range []struct {
		records map[string]string
		want    string
		err     string
	}{
		{nil, "", ""},
		{map[string]string{"mtime": "1", "comment": "x", "VENDOR.x": "y"}, "", ""},
		{map[string]string{"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": ""}, `user.a="" user.b="2"`, ""},
		{map[string]string{"SCHILY.xattr.user.%3D%25%3d%zz%253D": "x"}, `user.=%%3d%zz%3D="x"`, ""},
		{map[string]string{"LIBARCHIVE.xattr.user.a%20b": "AP8"}, `user.a b="\x00\xff"`, ""},
		{map[string]string{"LIBARCHIVE.xattr.user.a%20b": "AP8=", "SCHILY.xattr.user.a%20b": "\x00\xff"}, `user.a b="\x00\xff"`, ""},
		{map[string]string{"LIBARCHIVE.xattr.user.a": "?", "SCHILY.xattr.user.b": "2"}, `user.b="2"`, "illegal base64"},
		{map[string]string{"LIBARCHIVE.xattr.user.%z": "AA"}, "", "invalid URL"},
		{map[string]string{"SCHILY.xattr.": "x"}, "", "no name"},
		{map[string]string{"LIBARCHIVE.xattr.a%00": "AA"}, "", "no name"},
		{map[string]string{"RHT.security.selinux": "label"}, `security.selinux="label\x00"`, ""},
		{map[string]string{"SCHILY.acl.access": "user::rw-,group::r--,other::---"}, "", ""}, // the mode says it
		{map[string]string{"SCHILY.acl.access": ""}, "", ""},
		{map[string]string{"SCHILY.acl.access": "user::rw-,user:bob:r--"}, "", `"bob"`},
		{map[string]string{"SCHILY.acl.access": "owner@:rw:allow"}, "", "no access control list"},
		{map[string]string{"SCHILY.acl.access": "user::rwz"}, "", "no access control list"},
		{map[string]string{"SCHILY.acl.access": "mask:x:rw-"}, "", "no access control list"},
		{map[string]string{"SCHILY.acl.default": "user"}, "", "no access control list"},
	} {
		xs, err := pax.Xattrs(test.records, people{})
		if got := text(xs); got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: %s, %v; want %s, %q", test.records, got, err, test.want, test.err)
		}
	}
}

// The forms in which programs write one list.
func TestACLForms(t *testing.T) {
	want := "user::rwx,user:5:r--,user:1001:rw-,group::r-x,group:2002:--x,mask::rwx,other::---"
	for _, form := range []string{
		want,
		"user::rwx\nuser:ann:rw-\nuser:5:r--\ngroup::r-x\ngroup:crew:--x\nmask::rwx\nother::---\n",
		"user::rwx,group::r-x,other::---,user:5:r--:5,user:zoe:rw-:1001,group:crew:--x:2002,mask::rwx",
		"u::rwx, u:5:r ,u:1001:wr,g::rx  #effective:r-x, g:2002:x,mask:rwx,other:---",
		"default:user::rwx,default:user:5:r--,default:user:1001:rw-,default:group::r-x,default:group:2002:--x,default:mask::rwx,default:other::---",
	} {
		for _, key := range []string{"SCHILY.acl.access", "SCHILY.acl.default"} {
			xs, err := pax.Xattrs(map[string]string{key: form}, people{})
			if err != nil || len(xs) != 1 || !strings.HasPrefix(xs[0].Name, "system.posix_acl_") {
				t.Fatalf("%q: %s, %v", form, text(xs), err)
			}
			if got := pax.Records(xs); !maps.Equal(got, map[string]string{key: want}) {
				t.Errorf("%q comes back as %q", form, got)
			}
			mode := uint32(0o4644)
			if key == "SCHILY.acl.access" {
				mode = 0o4770
			}
			if got := pax.Mode(0o4644, xs); got != mode {
				t.Errorf("%q gives the mode %o, want %o", form, got, mode)
			}
		}
	}
}

// Whatever an attribute is, its record gives it back.
func FuzzRecords(f *testing.F) {
	f.Add("user.a=b%25%3D%", []byte("x\x00\n"))
	f.Add("system.posix_acl_access", []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x01\x00\x00\x00\x10\x00\x07\x00\xff\xff\xff\xff"))
	f.Add("system.posix_acl_default", []byte("\x02\x00\x00\x00\x20\x00\x06\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		if name == "" || strings.IndexByte(name, 0) >= 0 {
			return
		}
		in := []fsmeta.Xattr{{Name: name, Value: value}}
		out, err := pax.Xattrs(pax.Records(in), people{})
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "system.posix_acl_") {
			return // what no kernel says may be put into order
		}
		if len(out) != 1 || out[0].Name != name || string(out[0].Value) != string(value) {
			t.Errorf("%q comes back as %q", in, out)
		}
	})
}

func TestIsKnown(t *testing.T) {
	for k, want := range map[string]bool{"mtime": true, "SCHILY.xattr.user.x": true, "GNU.sparse.map": true, "SCHILY.acl.ace": false, "SCHILY.fflags": false, "X": false} {
		if pax.IsKnown(k) != want {
			t.Errorf("%s: %t", k, !want)
		}
	}
	if !reflect.DeepEqual(pax.Records(nil), map[string]string(nil)) {
		t.Error("no attributes make records")
	}
}
