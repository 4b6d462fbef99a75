// Package pax translates extended attributes to and from the records of a tar's PAX
// headers, as GNU tar and libarchive (bsdtar) write and read them:
//
//	SCHILY.xattr.NAME           the value as it is. GNU tar reads %25 and %3D as % and =
//	LIBARCHIVE.xattr.NAME       the value in base64, the name as in a URL
//	SCHILY.acl.access, .default POSIX access control lists as text (acl.go)
//	RHT.security.selinux        the label, without its last zero byte
package pax

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/internal/fsmeta"
)

const (
	schily     = "SCHILY.xattr."
	libarchive = "LIBARCHIVE.xattr."
	selinux    = "RHT.security.selinux"
	label      = "security.selinux"
)

// Owners finds the numbers of the users and groups that access control lists name.
type Owners interface {
	UID(name string) (uint32, bool)
	GID(name string) (uint32, bool)
}

// Xattrs returns the extended attributes in the records of a header, sorted by name.
// The error joins one for each that can't be had; the others are returned all the same.
func Xattrs(records map[string]string, owners Owners) ([]fsmeta.Xattr, error) {
	values := make(map[string]string)
	var errs []error
	for _, k := range keysByTrust(records) {
		name, value, err := xattr(k, records[k], owners)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("record %s: %w", k, err))
		case name != "":
			values[name] = value
		}
	}
	var xs []fsmeta.Xattr
	for name, value := range values {
		xs = append(xs, fsmeta.Xattr{Name: name, Value: []byte(value)})
	}
	slices.SortFunc(xs, func(a, b fsmeta.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return xs, errors.Join(errs...)
}

// keysByTrust returns the keys of the records that are attributes. If several are of one
// attribute the last counts: that which can be read in one way only.
func keysByTrust(records map[string]string) (keys []string) {
	rank := func(k string) int {
		switch {
		case strings.HasPrefix(k, libarchive):
			return 3
		case strings.HasPrefix(k, schily):
			return 2
		case k == aclAccess, k == aclDefault, k == selinux:
			return 1
		}
		return 0
	}
	for k := range records {
		// libarchive writes both, and the name of the first as that of the second.
		_, twice := records[libarchive+strings.TrimPrefix(k, schily)]
		if rank(k) > 0 && !(twice && strings.HasPrefix(k, schily)) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return keys
}

// xattr returns the attribute that a record is. The name is empty if there is nothing to
// say.
func xattr(k, v string, owners Owners) (name, value string, err error) {
	switch k {
	case aclAccess, aclDefault:
		acl, err := parseACL(v, owners)
		if err != nil || k == aclAccess && acl.isMode() || len(acl) == 0 {
			return "", "", err
		}
		return xattrOf[k], string(acl.binary()), nil
	case selinux:
		return label, v + "\x00", nil
	}
	if escaped, ok := strings.CutPrefix(k, libarchive); ok {
		if name, err = url.PathUnescape(escaped); err != nil {
			return "", "", err
		}
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
		if err != nil {
			return "", "", err
		}
		value = string(b)
	} else {
		name, value = unescape.Replace(strings.TrimPrefix(k, schily)), v
	}
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return "", "", errors.New("the attribute has no name, or one with a zero byte")
	}
	return name, value, nil
}

// Only what would be misread is escaped: libarchive takes names as they are.
var (
	escape   = strings.NewReplacer("%25", "%2525", "%3D", "%253D", "=", "%3D")
	unescape = strings.NewReplacer("%25", "%", "%3D", "=")
)

// Records returns the records of extended attributes, for extraction by GNU tar (with
// --xattrs-include='*' --acls) and bsdtar alike.
func Records(xs []fsmeta.Xattr) map[string]string {
	if len(xs) == 0 {
		return nil
	}
	records := make(map[string]string, len(xs))
	for _, x := range xs {
		if k, ok := recordOf[x.Name]; ok {
			if acl, err := decodeACL(x.Value); err == nil {
				records[k] = acl.String()
				continue
			}
		}
		records[schily+escape.Replace(x.Name)] = string(x.Value)
	}
	return records
}

// IsKnown reports whether a record is an attribute, or says something that a snapshot has
// in another form or no use for. Others are lost.
func IsKnown(k string) bool {
	switch k {
	case "path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime",
		"comment", "charset", "hdrcharset", aclAccess, aclDefault, selinux,
		// Of the file system that the tar was made on, or of the tar itself.
		"SCHILY.dev", "SCHILY.ino", "SCHILY.nlink", "SCHILY.realsize", "SCHILY.filetype", "SCHILY.volhdr",
		"SCHILY.archtype", "SCHILY.release", "SCHILY.devmajor", "SCHILY.devminor", "SCHILY.offset",
		"LIBARCHIVE.creationtime", "LIBARCHIVE.symlinktype":
		return true
	}
	return strings.HasPrefix(k, schily) || strings.HasPrefix(k, libarchive) || strings.HasPrefix(k, "GNU.")
}
