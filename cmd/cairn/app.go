package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/limit"
	"github.com/cairn-backup/cairn/backend/open"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// terminal is where a run of the program reads and writes.
type terminal struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// program is one run of the command line.
type program struct {
	terminal
	json    *termui.JSONWriter // nil: text for people
	quiet   bool
	verbose bool
	silent  bool // hold warnings back until something fails
	// interrupted is what to say if the user stops the command.
	interrupted string
	progress    atomic.Pointer[termui.Progress] // set while a command shows one

	mu   sync.Mutex
	held []string // warnings that nobody has seen yet
	lost int      // more of them
}

// run runs the program with its arguments and returns the exit status.
func run(ctx context.Context, args []string, t terminal) int {
	out := &output{Writer: t.Stdout}
	t.Stdout = out
	p := &program{terminal: t, interrupted: "interrupted; nothing that was stored before is affected"}
	if len(args) > 1 && args[1] == completeCommand {
		p.complete(ctx, args[2:])
		return statusOK
	}
	app := p.app()
	var help bytes.Buffer
	app.Writer = &help
	arranged, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, arranged)
	}
	if p.json == nil && wantsJSON(args) { // it stopped before the options were read
		p.json = termui.NewJSONWriter(t.Stdout)
	}
	if help.Len() > 0 {
		p.text(help.String())
	}
	if err != nil && ctx.Err() != nil {
		err = &statusError{statusInterrupted, errors.New(p.interrupted)}
	}
	if out.err != nil && (err == nil || errors.Is(err, out.err)) {
		err = fmt.Errorf("write the output: %w", out.err)
	}
	p.say(err)
	return statusOf(err)
}

// wantsJSON is for errors that come before the options are read.
func wantsJSON(args []string) bool {
	on, _ := strconv.ParseBool(os.Getenv("CAIRN_JSON"))
	for _, a := range args {
		switch a {
		case "--json", "--json=true":
			on = true
		case "--json=false":
			on = false
		case "--":
			return on
		}
	}
	return on
}

// say reports an error: what failed, why, what to do next.
func (p *program) say(err error) {
	if err == nil {
		return
	}
	for _, w := range p.held {
		fmt.Fprintf(p.Stderr, "cairn: %s\n", w)
	}
	if p.lost > 0 {
		fmt.Fprintf(p.Stderr, "cairn: and %s\n", plural(p.lost, "more warning"))
	}
	h := hint(err)
	if p.json != nil {
		p.json.Write("error", map[string]any{"code": statusOf(err), "message": err.Error(), "hint": h})
		return
	}
	for line := range strings.Lines(err.Error()) { // of joined errors
		fmt.Fprintf(p.Stderr, "cairn: %s\n", termui.Clean(strings.TrimSuffix(line, "\n")))
	}
	if h != "" {
		fmt.Fprintf(p.Stderr, "  %s\n", h)
	}
}

// maxHeld is how many warnings a quiet run keeps to show should it fail.
const maxHeld = 1000

// warn tells of something that does not stop the command. It may be called
// from several goroutines.
func (p *program) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.json != nil {
		p.json.Write("warning", map[string]any{"message": text})
		return
	}
	text = termui.Clean(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent {
		if len(p.held) < maxHeld {
			p.held = append(p.held, text)
		} else {
			p.lost++
		}
		return
	}
	if pr := p.progress.Load(); pr != nil {
		pr.Warn("cairn: " + text)
		return
	}
	fmt.Fprintf(p.Stderr, "cairn: %s\n", text)
}

// printf prints to people who did not ask for quiet.
func (p *program) printf(format string, args ...any) {
	if p.json == nil && !p.quiet {
		fmt.Fprintf(p.Stdout, format, args...)
	}
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name:      "cairn",
		Usage:     "deduplicating, encrypted backups",
		UsageText: "cairn [global options] COMMAND [options] [arguments]\n\nOptions may stand anywhere before a --.",
		Reader:    p.Stdin,
		ErrWriter: p.Stderr,
		// Patterns, tags and commands may have commas.
		DisableSliceFlagSeparator: true,
		HideVersion:               true,                         // our own option
		ExitErrHandler:            func(*cli.Context, error) {}, // run does it
		Flags:                     globalFlags(),
		Before:                    p.before,
		Action: func(c *cli.Context) error {
			if p.json == nil {
				c.App.Writer = p.Stderr
				cli.ShowAppHelp(c)
			}
			return usagef("which command? see cairn help")
		},
	}
	app.Commands = []*cli.Command{
		p.initCommand(), p.snapshotCommand(), p.snapshotsCommand(), p.lsCommand(), p.catCommand(), p.findCommand(), p.diffCommand(), p.restoreCommand(),
		p.checkCommand(), p.forgetCommand(), p.pruneCommand(), p.repairCommand(), p.statsCommand(), p.benchCommand(), p.keyCommand(), p.completionCommand(), p.manCommand(), p.versionCommand(), p.helpCommand(),
	}
	app.HideHelpCommand = true
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usagef("%s", plainUsage(err)) }
	plainDefaults(app.Flags)
	prepare(app.Commands, app.OnUsageError)
	return app
}

// prepare sets what is the same in all commands.
func prepare(commands []*cli.Command, onUsageError cli.OnUsageErrorFunc) {
	for _, c := range commands {
		// Or else a first argument "help" would be taken for a subcommand.
		c.HideHelpCommand = true
		c.OnUsageError = onUsageError
		plainDefaults(c.Flags)
		prepare(c.Subcommands, onUsageError)
	}
}

// plainDefaults keeps "(default: false)" out of the help.
func plainDefaults(flags []cli.Flag) {
	for _, f := range flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
}

// before reads the global options that say how to talk.
func (p *program) before(c *cli.Context) error {
	if c.Bool("json") {
		p.json = termui.NewJSONWriter(p.Stdout)
	}
	p.quiet, p.verbose = c.Bool("quiet"), c.Bool("verbose")
	p.silent = p.quiet
	if p.quiet && p.verbose {
		return usagef("--quiet and --verbose exclude each other")
	}
	if p.quiet || p.verbose {
		return nil
	}
	own := os.Getenv("CAIRN_LOG_LEVEL")
	level := own
	if level == "" {
		level = os.Getenv("LOG_LEVEL")
	}
	switch strings.ToLower(level) {
	case "debug", "trace":
		p.verbose = true
	case "warn", "warning":
		p.quiet = true
	case "error", "fatal":
		p.quiet, p.silent = true, true
	case "", "info", "notice":
	default:
		if own != "" { // LOG_LEVEL may be meant for other programs
			return usagef("CAIRN_LOG_LEVEL=%q: want debug, info, warn or error", own)
		}
	}
	return nil
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "repo", Aliases: []string{"r"}, EnvVars: []string{"CAIRN_REPOSITORY"}, Usage: "repository: a `PATH` or URL"},
		&cli.StringFlag{Name: "password-file", Usage: "read the passphrase from `FILE` (also CAIRN_PASSWORD_FILE, CAIRN_PASSWORD, CAIRN_PASSWORD_COMMAND)"},
		&cli.StringFlag{Name: "identity-file", EnvVars: []string{"CAIRN_IDENTITY_FILE"}, Usage: "read an identity or recovery key from `FILE`"},
		&cli.StringFlag{Name: "cache-dir", EnvVars: []string{"CAIRN_CACHE_DIR"}, Usage: "keep this machine's cache in `DIR`"},
		&cli.BoolFlag{Name: "json", EnvVars: []string{"CAIRN_JSON"}, Usage: "print one JSON object a line"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing on success but data that was asked for"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "print each item"},
		&cli.BoolFlag{Name: "no-progress", Usage: "show no progress"},
		&cli.StringFlag{Name: "limit-upload", Usage: "write at most `RATE` bytes a second (10MiB)"},
		&cli.StringFlag{Name: "limit-download", Usage: "read at most `RATE` bytes a second (10MiB)"},
		&cli.BoolFlag{Name: "version", Usage: "print version and build"},
		cli.HelpFlag, // which urfave/cli leaves out where there is a command of its name
	}
}

// storage opens the storage that the options name.
func (p *program) storage(c *cli.Context, openURL func(string) (backend.Interface, error)) (backend.Interface, error) {
	url := c.String("repo")
	if url == "" {
		return nil, usagef("which repository? give --repo PATH or set CAIRN_REPOSITORY")
	}
	b, err := openURL(url)
	if err != nil {
		// What does not come from the system is about the text of the URL.
		var system syscall.Errno
		if !errors.As(err, &system) && !errors.Is(err, os.ErrNotExist) {
			return nil, usagef("%v", err)
		}
		return nil, err
	}
	up, err := rate(c, "limit-upload")
	if err != nil {
		return nil, err
	}
	down, err := rate(c, "limit-download")
	if err != nil {
		return nil, err
	}
	if up > 0 || down > 0 {
		b = limit.New(b, limit.Config{Upload: up, Download: down})
	}
	return b, nil
}

func rate(c *cli.Context, name string) (int64, error) {
	s := c.String(name)
	if s == "" {
		return 0, nil
	}
	n, err := termui.ParseSize(s)
	if err != nil || n <= 0 {
		return 0, usagef("--%s %q: want bytes a second, such as 10MiB", name, s)
	}
	return n, nil
}

// open opens the repository that the options name.
func (p *program) open(c *cli.Context) (*repo.Repository, error) {
	b, err := p.storage(c, open.URL)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", repo.ErrNoRepository, c.String("repo"))
	}
	if err != nil {
		return nil, err
	}
	if err := repo.Look(c.Context, b); err != nil { // before the passphrase is asked for
		return nil, err
	}
	secrets, err := p.secrets(c)
	if err != nil {
		return nil, err
	}
	r, err := repo.Open(c.Context, repo.Options{Storage: b, Secrets: secrets, Cache: cacheDir(c), Observer: p.observer()})
	// Argon2id has used, and freed, as much memory as everything else together. To
	// give it back need not be waited for.
	go debug.FreeOSMemory()
	return r, cacheProblem(err, cacheDir(c))
}

// openToRead opens the repository for a command that reads contents, which a
// write-only key can't. It says so before anything is begun.
func (p *program) openToRead(c *cli.Context) (*repo.Repository, error) {
	r, err := p.open(c)
	if err != nil {
		return nil, err
	}
	if r.Access() != seal.Full {
		return nil, errors.Join(repo.ErrWriteOnly, r.Close())
	}
	return r, nil
}

// cacheProblem says of errors in the cache that it can be elsewhere.
func cacheProblem(err error, dir string) error {
	var pe *os.PathError
	if dir != "" && errors.As(err, &pe) && (pe.Path == dir || strings.HasPrefix(pe.Path, dir+"/") || strings.HasPrefix(dir, pe.Path+"/")) {
		return &hintError{err, "choose another folder for the cache with --cache-dir"}
	}
	return err
}

func (p *program) observer() repo.Observer {
	return repo.Observer{Warning: func(err error) { p.warn("%v", err) }}
}

func cacheDir(c *cli.Context) string {
	if d := c.String("cache-dir"); d != "" {
		return d
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "" // without a home: a temporary one
	}
	return filepath.Join(d, "cairn")
}

// argument returns the only argument of a command.
func argument(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("%s takes one argument: %s", commandName(c), what)
	}
	return c.Args().First(), nil
}

// noArguments refuses arguments.
func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("%s takes no arguments, but %s was given", commandName(c), strconv.Quote(c.Args().First()))
	}
	return nil
}

// commandName is the whole name of a command, as "cairn key add".
func commandName(c *cli.Context) string { return c.Command.HelpName }
