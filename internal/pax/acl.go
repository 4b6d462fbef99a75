package pax

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-backup/cairn/internal/fsmeta"
)

const (
	aclAccess  = "SCHILY.acl.access"
	aclDefault = "SCHILY.acl.default"
)

// The kernel shows access control lists as attributes.
var (
	xattrOf  = map[string]string{aclAccess: "system.posix_acl_access", aclDefault: "system.posix_acl_default"}
	recordOf = map[string]string{"system.posix_acl_access": aclAccess, "system.posix_acl_default": aclDefault}
)

// acl is a POSIX access control list, in the order that the kernel wants: by tag, then by
// ID.
type acl []aclEntry

type aclEntry struct {
	tag, perm uint16
	id        uint32 // of a user or group, else noID
}

// Tags of entries (linux/posix_acl.h).
const (
	userObj  = 0x01
	user     = 0x02
	groupObj = 0x04
	group    = 0x08
	mask     = 0x10
	other    = 0x20

	noID       = 0xffffffff
	aclVersion = 2
)

var tagNames = map[uint16]string{userObj: "user", user: "user", groupObj: "group", group: "group", mask: "mask", other: "other"}

// isMode reports whether the list says no more than a file's mode does.
func (a acl) isMode() bool {
	return !slices.ContainsFunc(a, func(e aclEntry) bool { return e.tag&(user|group|mask) != 0 })
}

// Mode returns the permission bits of a file with the given attributes, of which an access
// control list may be one: the kernel keeps the two together, with the list's mask in the
// place of the group. In a tar they can differ (libarchive writes the group's own bits).
func Mode(bits uint32, xs []fsmeta.Xattr) uint32 {
	i := slices.IndexFunc(xs, func(x fsmeta.Xattr) bool { return x.Name == xattrOf[aclAccess] })
	if i < 0 {
		return bits
	}
	a, err := decodeACL(xs[i].Value)
	if err != nil {
		return bits
	}
	set := func(shift int, perm uint16) { bits = bits&^(7<<shift) | uint32(perm)<<shift }
	for _, e := range a { // the mask comes behind the group
		switch e.tag {
		case userObj:
			set(6, e.perm)
		case groupObj, mask:
			set(3, e.perm)
		case other:
			set(0, e.perm)
		}
	}
	return bits
}

// binary returns the list as the attribute's value (linux/posix_acl_xattr.h).
func (a acl) binary() []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

var errACL = errors.New("no access control list")

// decodeACL is the reverse of binary.
func decodeACL(b []byte) (acl, error) {
	if len(b) < 4 || len(b)%8 != 4 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, errACL
	}
	var a acl
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := aclEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		if _, ok := tagNames[e.tag]; !ok || e.perm > 7 {
			return nil, errACL
		}
		a = append(a, e)
	}
	return a, nil
}

// String returns the list as text, with users and groups by their numbers.
func (a acl) String() string {
	var entries []string
	for _, e := range a {
		id := ""
		if e.tag == user || e.tag == group {
			id = strconv.FormatUint(uint64(e.id), 10)
		}
		perm := []byte("---")
		for i, c := range []byte("rwx") {
			if e.perm&(4>>i) != 0 {
				perm[i] = c
			}
		}
		entries = append(entries, tagNames[e.tag]+":"+id+":"+string(perm))
	}
	return strings.Join(entries, ",")
}

// parseACL reads a list as text: entries of TAG:NAME:PERMISSIONS, separated by commas or
// line ends. libarchive adds the number as a fourth field.
func parseACL(s string, owners Owners) (acl, error) {
	var a acl
	for text := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == '\n' }) {
		text, _, _ = strings.Cut(text, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		e, err := parseACLEntry(strings.Split(strings.TrimPrefix(text, "default:"), ":"), owners)
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", text, err)
		}
		a = append(a, e)
	}
	slices.SortFunc(a, func(x, y aclEntry) int { return cmp.Or(cmp.Compare(x.tag, y.tag), cmp.Compare(x.id, y.id)) })
	return a, nil
}

func parseACLEntry(fields []string, owners Owners) (e aclEntry, err error) {
	e.id = noID
	if len(fields) == 2 { // without a name
		fields = []string{fields[0], "", fields[1]}
	}
	if len(fields) != 3 && len(fields) != 4 {
		return e, errACL
	}
	find := owners.UID
	switch fields[0] {
	case "user", "u":
		e.tag = userObj
	case "group", "g":
		e.tag, find = groupObj, owners.GID
	case "mask", "m":
		e.tag = mask
	case "other", "o":
		e.tag = other
	default:
		return e, errACL
	}
	if name := fields[1]; name != "" {
		if e.tag > groupObj {
			return e, errACL
		}
		e.tag *= 2 // a named one
		if len(fields) == 4 {
			name = fields[3]
		}
		if e.id, err = parseID(name, find); err != nil {
			return e, err
		}
	}
	for _, c := range []byte(fields[2]) {
		i := strings.IndexByte("xwr", c)
		if i < 0 && c != '-' {
			return e, errACL
		}
		if i >= 0 {
			e.perm |= 1 << i
		}
	}
	return e, nil
}

func parseID(name string, find func(string) (uint32, bool)) (uint32, error) {
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(id), nil
	}
	if id, ok := find(name); ok {
		return id, nil
	}
	return 0, fmt.Errorf("this machine knows nobody of the name %q", name)
}
