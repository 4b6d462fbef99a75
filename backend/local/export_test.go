package local

// What the tests need to put another file system beneath.
type (
	FS   = fsys
	File = file
)

// OS is the real file system.
type OS = osFS

// OpenOn and CreateOn are Open and Create on another file system.
var (
	OpenOn   = open
	CreateOn = create
)

// What Link consists of.
var (
	LinkBy          = linkBy
	RenameExclusive = renameExclusive
)

// TmpDir is the directory of temporary files below the root.
const TmpDir = tmpDir
