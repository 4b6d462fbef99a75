package local

// OS is the real file system.
type OS = osFS

// What Link consists of.
var (
	LinkBy          = linkBy
	RenameExclusive = renameExclusive
)

// TmpDir is the directory of temporary files below the root.
const TmpDir = tmpDir
