//go:build !linux && !darwin

package local

import (
	"errors"
	"os"
)

// renameExclusive fails: this system can't rename without replacing.
func renameExclusive(old, new string) error {
	return &os.LinkError{Op: "rename", Old: old, New: new, Err: errors.ErrUnsupported}
}

// beginWriteback does nothing: this system has no such call.
func beginWriteback(*os.File, int64, int64) {}
