package protocol

import (
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// Message is what an object says.
type Message = message

// Encode returns the encoding of a message, without padding.
func Encode(m message) []byte { return m.encode() }

// Parse reads an encoding of a message, which is padded if it is to be sealed.
func Parse(m message, p []byte, padded bool) error {
	d := wire.NewDecoder(p)
	m.parse(d)
	if padded {
		return d.FinishPadded(len(p), seal.Padme)
	}
	return d.Finish()
}
