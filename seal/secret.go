package seal

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/argon2"

	"github.com/cairn-backup/cairn/internal/prefault"
)

// Passphrase locks and unlocks slots with a passphrase through Argon2id (RFC
// 9106).
type Passphrase struct {
	Text []byte
	// Cost is what locking a new slot uses; zero means DefaultCost. Unlocking
	// uses what the slot says.
	Cost Cost
}

// Cost are the parameters of Argon2id.
type Cost struct {
	Passes uint32
	Memory uint32 // KiB
	Lanes  uint8
}

// DefaultCost takes some 0.2 s: more memory and passes than any choice of the
// OWASP Password Storage Cheat Sheet. The second choice of RFC 9106, section 4,
// has a third pass and four lanes. It would cost a guesser half as much again, and
// every command 0.1 s and thrice the CPU time: to touch the memory for
// the first time takes as long as a pass over it, and lanes get into each
// other's way there.
var DefaultCost = Cost{Passes: 2, Memory: 64 << 10, Lanes: 1}

// validate bounds what a stored slot can make a program do: the slot is read
// before anything about it is trusted.
func (c Cost) validate() error {
	if c.Passes < 1 || c.Passes > 64 || c.Lanes < 1 || c.Lanes > 64 || c.Memory < 8*uint32(c.Lanes) || c.Memory > 2<<20 {
		return fmt.Errorf("Argon2id with %d passes, %d KiB, %d lanes is out of bounds", c.Passes, c.Memory, c.Lanes)
	}
	return nil
}

const (
	passphraseParamsSize = SaltSize + 4 + 4 + 1
	recipientParamsSize  = 32 + SealedKeySize
	recoveryParamsSize   = SaltSize
	recipientContext     = "cairn v1 slot recipient"
)

func paramsSize(k SlotKind) int {
	switch k {
	case PassphraseSlot:
		return passphraseParamsSize
	case RecipientSlot:
		return recipientParamsSize
	case RecoverySlot:
		return recoveryParamsSize
	}
	return 0
}

func parsePassphraseParams(p []byte) Cost {
	return Cost{
		Passes: binary.LittleEndian.Uint32(p[SaltSize:]),
		Memory: binary.LittleEndian.Uint32(p[SaltSize+4:]),
		Lanes:  p[SaltSize+8],
	}
}

func (p Passphrase) material(salt []byte, c Cost) [32]byte {
	prefault.Heap(int(c.Memory) << 10)
	return [32]byte(argon2.IDKey(p.Text, salt, c.Passes, c.Memory, c.Lanes, 32))
}

func (p Passphrase) lock(random io.Reader, _ []byte) (SlotKind, []byte, [32]byte, error) {
	c := p.Cost
	if c == (Cost{}) {
		c = DefaultCost
	}
	if err := c.validate(); err != nil {
		return 0, nil, [32]byte{}, err
	}
	if len(p.Text) == 0 {
		return 0, nil, [32]byte{}, errors.New("the passphrase is empty")
	}
	params := make([]byte, SaltSize, passphraseParamsSize)
	if _, err := io.ReadFull(random, params); err != nil {
		return 0, nil, [32]byte{}, fmt.Errorf("read random bytes: %w", err)
	}
	m := p.material(params, c)
	params = binary.LittleEndian.AppendUint32(params, c.Passes)
	params = binary.LittleEndian.AppendUint32(params, c.Memory)
	return PassphraseSlot, append(params, c.Lanes), m, nil
}

func (p Passphrase) unlock(kind SlotKind, params, _ []byte) ([32]byte, error) {
	if kind != PassphraseSlot {
		return [32]byte{}, ErrWrongSecret
	}
	return p.material(params[:SaltSize], parsePassphraseParams(params)), nil
}

// Recipient locks slots for the holder of an Identity.
type Recipient struct{ key *PublicKey }

// Identity unlocks the slots of its recipient.
type Identity struct {
	seed [SeedSize]byte
	key  *PrivateKey
}

// NewIdentity makes an identity from a random seed.
func NewIdentity(random io.Reader) (*Identity, error) {
	var seed [SeedSize]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	return identityOf(seed)
}

func identityOf(seed [SeedSize]byte) (*Identity, error) {
	key, err := NewPrivateKey(seed)
	if err != nil {
		return nil, err
	}
	return &Identity{seed: seed, key: key}, nil
}

// Recipient returns the public side.
func (i *Identity) Recipient() *Recipient { return &Recipient{key: i.key.Public()} }

func (r *Recipient) lock(random io.Reader, header []byte) (SlotKind, []byte, [32]byte, error) {
	var m [32]byte
	if _, err := io.ReadFull(random, m[:]); err != nil {
		return 0, nil, m, fmt.Errorf("read random bytes: %w", err)
	}
	sealed, err := r.key.Seal(append([]byte(recipientContext), header...), m[:])
	if err != nil {
		return 0, nil, m, fmt.Errorf("seal to recipient: %w", err)
	}
	fingerprint := blake3.Sum256(r.key.Bytes())
	return RecipientSlot, append(fingerprint[:], sealed...), m, nil
}

func (i *Identity) unlock(kind SlotKind, params, header []byte) (m [32]byte, err error) {
	if kind != RecipientSlot || [32]byte(params) != blake3.Sum256(i.key.Public().Bytes()) {
		return m, ErrWrongSecret
	}
	p, err := i.key.Open(append([]byte(recipientContext), header...), params[32:])
	if err != nil {
		return m, err
	}
	if len(p) != len(m) {
		return m, fmt.Errorf("key slot is %w: key material of %d bytes", ErrDamaged, len(p))
	}
	return [32]byte(p), nil
}

// RecoveryKey locks and unlocks slots with a random secret that is kept on
// paper.
type RecoveryKey struct{ secret [32]byte }

// NewRecoveryKey makes a random recovery key.
func NewRecoveryKey(random io.Reader) (*RecoveryKey, error) {
	k := new(RecoveryKey)
	if _, err := io.ReadFull(random, k.secret[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	return k, nil
}

func (k *RecoveryKey) material(salt []byte) (m [32]byte) {
	h, err := blake3.NewKeyed(k.secret[:])
	if err != nil {
		panic("internal error: " + err.Error()) // the key size is fixed
	}
	h.Write(salt)
	h.Sum(m[:0])
	return m
}

func (k *RecoveryKey) lock(random io.Reader, _ []byte) (SlotKind, []byte, [32]byte, error) {
	salt := make([]byte, SaltSize)
	if _, err := io.ReadFull(random, salt); err != nil {
		return 0, nil, [32]byte{}, fmt.Errorf("read random bytes: %w", err)
	}
	return RecoverySlot, salt, k.material(salt), nil
}

func (k *RecoveryKey) unlock(kind SlotKind, params, _ []byte) ([32]byte, error) {
	if kind != RecoverySlot {
		return [32]byte{}, ErrWrongSecret
	}
	return k.material(params), nil
}

// Secrets as text. Each has a prefix that says what it is and ends with a
// check sum, so that a slip of the pen is found before it is tried.
const (
	recoveryPrefix  = "CAIRN-RECOVERY-"
	identityPrefix  = "CAIRN-IDENTITY-"
	recipientPrefix = "cairn-recipient-"
)

var paper = base32.NewEncoding("ABCDEFGHJKLMNPQRSTUVWXYZ23456789").WithPadding(base32.NoPadding)

const checkSize = 3

func withCheck(prefix string, p []byte) []byte {
	h := blake3.New()
	h.WriteString(prefix)
	h.Write(p)
	var sum [32]byte
	h.Sum(sum[:0])
	return append(append([]byte(nil), p...), sum[:checkSize]...)
}

func withoutCheck(prefix, what string, p []byte, size int) ([]byte, error) {
	if len(p) != size+checkSize || string(withCheck(prefix, p[:size])) != string(p) {
		return nil, fmt.Errorf("this %s is mistyped or cut off: its check sum does not fit", what)
	}
	return p[:size], nil
}

// String returns the key in groups of five for paper. The alphabet has no I,
// O, 0 or 1.
func (k *RecoveryKey) String() string { return paperText(recoveryPrefix, k.secret[:]) }

// String returns the secret identity as one line of text.
func (i *Identity) String() string { return paperText(identityPrefix, i.seed[:]) }

func paperText(prefix string, secret []byte) string {
	digits := paper.EncodeToString(withCheck(prefix, secret))
	var b strings.Builder
	b.WriteString(prefix)
	for i := 0; i < len(digits); i += 5 {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(digits[i:min(i+5, len(digits))])
	}
	return b.String()
}

func parsePaper(prefix, what, s string) ([32]byte, error) {
	s = strings.ToUpper(strings.TrimSpace(s))
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return [32]byte{}, fmt.Errorf("this is no %s: it does not begin with %s", what, prefix)
	}
	digits = strings.NewReplacer("-", "", " ", "").Replace(digits)
	p, err := paper.DecodeString(digits)
	if err != nil {
		return [32]byte{}, fmt.Errorf("this %s is mistyped: %w", what, err)
	}
	if paper.EncodeToString(p) != digits {
		// The decoder overlooks a digit too many.
		return [32]byte{}, fmt.Errorf("this %s is mistyped: it has %d digits", what, len(digits))
	}
	p, err = withoutCheck(prefix, what, p, 32)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(p), nil
}

// ParseRecoveryKey reads a recovery key; case, spaces and dashes between the digits
// don't matter.
func ParseRecoveryKey(s string) (*RecoveryKey, error) {
	secret, err := parsePaper(recoveryPrefix, "recovery key", s)
	if err != nil {
		return nil, err
	}
	return &RecoveryKey{secret: secret}, nil
}

// ParseIdentity reads an identity.
func ParseIdentity(s string) (*Identity, error) {
	seed, err := parsePaper(identityPrefix, "identity", s)
	if err != nil {
		return nil, err
	}
	return identityOf(seed)
}

// ParseSecretFile reads the contents of an identity file: lines that are
// empty or begin with # are skipped, one other line is an identity or a
// recovery key.
func ParseSecretFile(contents string) (Unlocker, error) {
	for line := range strings.Lines(contents) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(strings.ToUpper(line), recoveryPrefix):
			return unlocker(ParseRecoveryKey(line))
		default:
			return unlocker(ParseIdentity(line))
		}
	}
	return nil, errors.New("the file holds neither an identity nor a recovery key")
}

// unlocker keeps the nil pointer that comes with an error from becoming an
// Unlocker that is not nil.
func unlocker[U Unlocker](u U, err error) (Unlocker, error) {
	if err != nil {
		return nil, err
	}
	return u, nil
}

// String returns the recipient as one line of text, some 1,640 characters.
func (r *Recipient) String() string {
	return recipientPrefix + base64.RawURLEncoding.EncodeToString(withCheck(recipientPrefix, r.key.Bytes()))
}

// ParseRecipient reads what Recipient.String wrote.
func ParseRecipient(s string) (*Recipient, error) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(s), recipientPrefix)
	if !ok {
		return nil, fmt.Errorf("this is no recipient: it does not begin with %s", recipientPrefix)
	}
	p, err := base64.RawURLEncoding.Strict().DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("this recipient is mistyped: %w", err)
	}
	p, err = withoutCheck(recipientPrefix, "recipient", p, PublicKeySize)
	if err != nil {
		return nil, err
	}
	key, err := ParsePublicKey(p)
	if err != nil {
		return nil, err
	}
	return &Recipient{key: key}, nil
}
