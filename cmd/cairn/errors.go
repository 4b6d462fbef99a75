package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// Exit statuses. Scripts rely on them.
const (
	statusOK          = 0
	statusFailed      = 1
	statusIncomplete  = 3 // done, but some source data could not be read
	statusNoRepo      = 10
	statusFenced      = 11
	statusWrongKey    = 12
	statusDamage      = 13
	statusUsage       = 64
	statusInterrupted = 130
)

// usageError is a wrong use of the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// statusError is an error whose exit status the command chose.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// hintError is an error with advice of its own.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

// statusOf returns the exit status for an error.
func statusOf(err error) int {
	var chosen *statusError
	var usage *usageError
	switch {
	case err == nil:
		return statusOK
	case errors.As(err, &chosen):
		return chosen.status
	case errors.As(err, &usage):
		return statusUsage
	case errors.Is(err, context.Canceled):
		return statusInterrupted
	case errors.Is(err, repo.ErrNoRepository):
		return statusNoRepo
	case errors.Is(err, repo.ErrFenced):
		return statusFenced
	case errors.Is(err, seal.ErrWrongSecret):
		return statusWrongKey
	case errors.Is(err, repo.ErrDamage):
		return statusDamage
	}
	return statusFailed
}

// hint says what to do about an error, or nothing.
func hint(err error) string {
	var own *hintError
	var damage *repo.DamageError
	var source *ingest.SourceError
	switch {
	case errors.As(err, &own):
		return own.hint
	case errors.As(err, &source):
		return "check the path and the right to read it, or use --allow-incomplete to keep what succeeded; no snapshot was made"
	case errors.As(err, &damage) && damage.Object == "config":
		return "run cairn repair on a machine that has used this repository: its cache has a copy of config (or put a copy of that object back from a backup of the storage). " +
			"Don't run init here"
	case errors.As(err, &damage) && strings.HasPrefix(damage.Object, "keys/"):
		return "use another passphrase or identity, or the recovery key, and run cairn repair with it on a machine that has used this repository"
	case errors.Is(err, repo.ErrNoRepository):
		return "make one with: cairn init --repo PATH"
	case errors.Is(err, repo.ErrExists):
		return "choose another place, or use the repository that is there"
	case errors.Is(err, seal.ErrWrongSecret):
		return "check --password-file, --identity-file and the variables CAIRN_PASSWORD_FILE, CAIRN_PASSWORD and CAIRN_PASSWORD_COMMAND"
	case errors.Is(err, repo.ErrWriteOnly):
		return "run it where a key with full access is, with its --password-file or --identity-file"
	case errors.Is(err, repo.ErrFenced):
		return "run the command again"
	case errors.Is(err, repo.ErrClock):
		return "set this machine's clock, or that of the storage, or give a --time that is not in the future; no snapshot was made"
	case errors.Is(err, seal.ErrNewer):
		return "install the newest cairn"
	case errors.Is(err, ingest.ErrIncomplete):
		return "mend the source, or use --allow-incomplete to keep what succeeded"
	case errors.Is(err, repo.ErrDamage):
		return "cairn check lists what is damaged and which files need it; cairn repair mends what can be mended"
	case errors.Is(err, repo.ErrNoSnapshot):
		return "cairn snapshots lists what there is"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space and run the command again; nothing that was stored before is affected"
	case errors.Is(err, syscall.EROFS):
		return "the file system is read-only; mount it for writing or choose another place"
	case errors.Is(err, fs.ErrPermission):
		return "run as a user with access, or change the permissions"
	}
	return ""
}
