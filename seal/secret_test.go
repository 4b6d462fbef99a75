package seal_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/seal"
)

// printable are the characters that a person may type.
func printable() string {
	var b strings.Builder
	for c := byte(' '); c <= '~'; c++ {
		b.WriteByte(c)
	}
	return b.String()
}

func TestRecoveryKeyText(t *testing.T) {
	k := must[*seal.RecoveryKey](t)(seal.NewRecoveryKey(random(1)))
	testPaper(t, k, func(s string) (fmt.Stringer, error) { return stringer(seal.ParseRecoveryKey(s)) }, "CAIRN-RECOVERY-")
}

func TestIdentityText(t *testing.T) {
	i := must[*seal.Identity](t)(seal.NewIdentity(random(1)))
	testPaper(t, i, func(s string) (fmt.Stringer, error) { return stringer(seal.ParseIdentity(s)) }, "CAIRN-IDENTITY-")
	again := must[*seal.Identity](t)(seal.ParseIdentity(i.String()))
	if again.Recipient().String() != i.Recipient().String() {
		t.Error("the identity came back with another recipient")
	}
}

// stringer keeps a nil pointer from becoming an interface that is not nil.
func stringer[T fmt.Stringer](v T, err error) (fmt.Stringer, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

func testPaper(t *testing.T, secret fmt.Stringer, parse func(string) (fmt.Stringer, error), prefix string) {
	text := secret.String()
	if !regexp.MustCompile(`^` + prefix + `([A-HJ-NP-Z2-9]{5}-){11}[A-HJ-NP-Z2-9]$`).MatchString(text) {
		t.Errorf("unexpected form %s", text)
	}
	digits := strings.ReplaceAll(strings.TrimPrefix(text, prefix), "-", "")
	for name, s := range map[string]string{
		"as written":      text,
		"lower case":      strings.ToLower(text),
		"spaces around":   "  " + text + "\r\n",
		"without dashes":  prefix + digits,
		"spaces, dashes":  prefix + " " + strings.ReplaceAll(strings.TrimPrefix(text, prefix), "-", " - "),
		"other grouping":  prefix + digits[:20] + "-" + digits[20:],
		"a dash too many": text + "-",
	} {
		if got, err := parse(s); err != nil || got.String() != text {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, s := range map[string]string{
		"empty":              "",
		"prefix alone":       prefix,
		"another prefix":     "CAIRN-" + text,
		"without prefix":     digits,
		"a digit missing":    text[:len(text)-1],
		"a digit more":       text + "A",
		"a group missing":    text[:len(text)-7],
		"a group twice":      text + "-" + text[len(text)-7:],
		"groups swapped":     prefix + digits[5:10] + digits[:5] + digits[10:],
		"neighbours swapped": prefix + digits[1:2] + digits[:1] + digits[2:],
	} {
		if got, err := parse(s); err == nil {
			t.Errorf("%s: %q was accepted as %v", name, s, got)
		}
	}
	for i := range text {
		for _, c := range printable() {
			s := text[:i] + string(c) + text[i+1:]
			if strings.EqualFold(s, text) || text[i] == '-' && c == ' ' && i >= len(prefix) {
				continue
			}
			if got, err := parse(s); err == nil {
				t.Errorf("%q was accepted as %v", s, got)
			}
		}
	}
}

// A text of one kind must not pass for another: the check sums differ too.
func TestTextsOfOtherKinds(t *testing.T) {
	k := must[*seal.RecoveryKey](t)(seal.NewRecoveryKey(random(1)))
	if _, err := seal.ParseIdentity(k.String()); err == nil {
		t.Error("a recovery key was read as an identity")
	}
	if _, err := seal.ParseIdentity(strings.Replace(k.String(), "RECOVERY", "IDENTITY", 1)); err == nil {
		t.Error("a recovery key with the prefix of an identity was read as one")
	}
}

func TestRecipientText(t *testing.T) {
	r := must[*seal.Identity](t)(seal.NewIdentity(random(1))).Recipient()
	text := r.String()
	for name, s := range map[string]string{"as written": text, "spaces around": " \t" + text + "\n"} {
		if got, err := seal.ParseRecipient(s); err != nil || got.String() != text {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, s := range map[string]string{
		"empty":            "",
		"prefix alone":     "cairn-recipient-",
		"cut off":          text[:len(text)-1],
		"longer":           text + "A",
		"padded":           text + "=",
		"another alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimPrefix(text, "cairn-recipient-")),
	} {
		if _, err := seal.ParseRecipient(s); err == nil {
			t.Errorf("%s: %q was accepted", name, s)
		}
	}
	// All characters at some places and at the end, where the last one has bits to
	// spare, and some characters at all places.
	for i := range text {
		chars := "A_ ="
		if i%64 == 0 || i > len(text)-6 {
			chars = printable()
		}
		for _, c := range chars {
			s := text[:i] + string(c) + text[i+1:]
			if s == text || i == 0 && c == ' ' || i == len(text)-1 && c == ' ' {
				continue // a cut-off text is tested above
			}
			if _, err := seal.ParseRecipient(s); err == nil {
				t.Errorf("%q was accepted", s)
			}
		}
	}

	// What the recipient's text locks, the identity's text opens.
	i := must[*seal.Identity](t)(seal.ParseIdentity(must[*seal.Identity](t)(seal.NewIdentity(random(1))).String()))
	object := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, must[*seal.Recipient](t)(seal.ParseRecipient(text)), bundle(seal.Full), signingKey(1)))
	if _, err := must[*seal.Slot](t)(seal.ParseSlot(object)).Open(i); err != nil {
		t.Error(err)
	}
}

func TestParseSecretFile(t *testing.T) {
	i := must[*seal.Identity](t)(seal.NewIdentity(random(1))).String()
	k := must[*seal.RecoveryKey](t)(seal.NewRecoveryKey(random(1))).String()
	for name, c := range map[string]struct{ contents, want string }{
		"identity":               {i, i},
		"recovery key":           {k, k},
		"comments, empty lines":  {"# made for host a\n\n  # " + k + "\n" + i + "\n", i},
		"lines end with CR LF":   {"# comment\r\n\r\n" + k + "\r\n", k},
		"recovery, lower case":   {"  " + strings.ToLower(k), k},
		"identity, lower case":   {strings.ToLower(i), i},
		"empty lines afterwards": {i + "\n\n# end\n", i},
	} {
		u, err := seal.ParseSecretFile(c.contents)
		if err != nil || u.(fmt.Stringer).String() != c.want {
			t.Errorf("%s: %v, %v", name, u, err)
		}
	}
	for name, contents := range map[string]string{
		"empty":         "",
		"comments only": "# one\n# two\n",
		"a passphrase":  "correct horse battery staple\n",
		"a recipient":   must[*seal.Identity](t)(seal.NewIdentity(random(1))).Recipient().String(),
		"cut off":       i[:30],
		"binary":        string(bytes.Repeat([]byte{0, 0xff}, 100)),
	} {
		if u, err := seal.ParseSecretFile(contents); u != nil || err == nil {
			t.Errorf("%s: %#v, %v", name, u, err)
		}
	}
}

func FuzzParseSecretFile(f *testing.F) {
	i, err := seal.NewIdentity(random(1))
	if err != nil {
		f.Fatal(err)
	}
	k, err := seal.NewRecoveryKey(random(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("# comment\n" + i.String() + "\n")
	f.Add("\r\n" + strings.ToLower(k.String()))
	f.Add("CAIRN-RECOVERY-ABCDE-FGHJK")
	f.Fuzz(func(t *testing.T, contents string) {
		u, err := seal.ParseSecretFile(contents)
		if err != nil {
			if u != nil {
				t.Fatalf("%v together with %v", u, err)
			}
			return
		}
		text := u.(fmt.Stringer).String()
		again, err := seal.ParseSecretFile(text)
		if err != nil || again.(fmt.Stringer).String() != text {
			t.Fatalf("%q came back as %v, %v", text, again, err)
		}
	})
}

func FuzzParseRecipient(f *testing.F) {
	i, err := seal.NewIdentity(random(1))
	if err != nil {
		f.Fatal(err)
	}
	text := i.Recipient().String()
	f.Add(text)
	f.Add(" " + text[:800] + "\n" + text[800:])
	f.Add("cairn-recipient-AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := seal.ParseRecipient(s)
		if err != nil {
			return
		}
		// Line breaks that a mail program put in do no harm.
		if joined := strings.NewReplacer("\r", "", "\n", "").Replace(strings.TrimSpace(s)); joined != r.String() {
			t.Fatalf("%q was read as %s", s, r)
		}
	})
}
