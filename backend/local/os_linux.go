package local

import (
	"os"

	"golang.org/x/sys/unix"
)

// renameExclusive renames a file unless the new name is taken. It needs Linux
// 3.15 and a file system that supports it.
func renameExclusive(old, new string) error {
	err := unix.Renameat2(unix.AT_FDCWD, old, unix.AT_FDCWD, new, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: old, New: new, Err: err}
	}
	return nil
}

// beginWriteback has the kernel begin to write a part of a file to the disk. It
// promises nothing, so an error means nothing: Sync will meet it.
func beginWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
