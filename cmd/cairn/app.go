package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

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
	json     *termui.JSONWriter // nil: text for people
	quiet    bool
	verbose  bool
	progress atomic.Pointer[termui.Progress] // set while a command shows one
}

// run runs the program with its arguments and returns the exit status.
func run(ctx context.Context, args []string, t terminal) int {
	p := &program{terminal: t}
	app := p.app()
	arranged, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, arranged)
	} else if p.json == nil && wantsJSON(args) {
		p.json = termui.NewJSONWriter(t.Stdout)
	}
	if err != nil && ctx.Err() != nil {
		err = &statusError{statusInterrupted, errors.New("interrupted; nothing that was stored before is affected")}
	}
	p.say(err)
	return statusOf(err)
}

func wantsJSON(args []string) bool {
	for _, a := range args {
		if a == "--json" {
			return true
		}
	}
	return os.Getenv("CAIRN_JSON") != ""
}

// say reports an error: what failed, why, what to do next.
func (p *program) say(err error) {
	if err == nil || err.Error() == "" {
		return
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

// warn tells of something that does not stop the command.
func (p *program) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case p.json != nil:
		p.json.Write("warning", map[string]any{"message": text})
	default:
		if pr := p.progress.Load(); pr != nil {
			pr.Warn("cairn: " + text)
			return
		}
		fmt.Fprintf(p.Stderr, "cairn: %s\n", termui.Clean(text))
	}
}

// printf prints to people who did not ask for quiet.
func (p *program) printf(format string, args ...any) {
	if p.json == nil && !p.quiet {
		fmt.Fprintf(p.Stdout, format, args...)
	}
}

func (p *program) app() *cli.App {
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version"}
	app := &cli.App{
		Name:                 "cairn",
		Usage:                "deduplicating, encrypted backups",
		Version:              version(),
		Reader:               p.Stdin,
		Writer:               p.Stdout,
		ErrWriter:            p.Stderr,
		Suggest:              true,
		EnableBashCompletion: true,
		HideHelpCommand:      false,
		ExitErrHandler:       func(*cli.Context, error) {}, // run does it
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usagef("%v", err)
		},
		Flags: globalFlags(),
		Before: func(c *cli.Context) error {
			if c.Bool("json") {
				p.json = termui.NewJSONWriter(p.Stdout)
			}
			p.quiet, p.verbose = c.Bool("quiet"), c.Bool("verbose") || isVerboseLevel()
			return nil
		},
		Action: func(c *cli.Context) error {
			cli.ShowAppHelp(c)
			return usagef("which command?")
		},
	}
	app.Commands = []*cli.Command{
		p.initCommand(), p.snapshotCommand(), p.snapshotsCommand(), p.lsCommand(), p.catCommand(), p.findCommand(), p.diffCommand(), p.restoreCommand(),
		p.checkCommand(), p.statsCommand(), p.keyCommand(), p.completionCommand(), p.manCommand(), p.versionCommand(),
	}
	for _, c := range app.Commands {
		c.OnUsageError = app.OnUsageError
		for _, s := range c.Subcommands {
			s.OnUsageError = app.OnUsageError
		}
	}
	return app
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "repo", Aliases: []string{"r"}, EnvVars: []string{"CAIRN_REPOSITORY"}, Usage: "repository: a `PATH` or URL"},
		&cli.StringFlag{Name: "password-file", Usage: "read the passphrase from `FILE` (also CAIRN_PASSWORD_FILE, CAIRN_PASSWORD, CAIRN_PASSWORD_COMMAND)"},
		&cli.StringFlag{Name: "identity-file", EnvVars: []string{"CAIRN_IDENTITY_FILE"}, Usage: "read an identity or recovery key from `FILE`"},
		&cli.StringFlag{Name: "cache-dir", EnvVars: []string{"CAIRN_CACHE_DIR"}, Usage: "keep this machine's cache in `DIR`"},
		&cli.BoolFlag{Name: "json", EnvVars: []string{"CAIRN_JSON"}, Usage: "print one JSON object a line"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing on success"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "print each item"},
		&cli.BoolFlag{Name: "no-progress", Usage: "show no progress"},
		&cli.StringFlag{Name: "limit-upload", Usage: "write at most `RATE` bytes a second (10MiB)"},
		&cli.StringFlag{Name: "limit-download", Usage: "read at most `RATE` bytes a second (10MiB)"},
	}
}

func isVerboseLevel() bool {
	level := os.Getenv("CAIRN_LOG_LEVEL")
	if level == "" {
		level = os.Getenv("LOG_LEVEL")
	}
	return strings.EqualFold(level, "debug") || strings.EqualFold(level, "trace")
}

// storage opens the storage that the options name.
func (p *program) storage(c *cli.Context, openURL func(string) (backend.Interface, error)) (backend.Interface, error) {
	url := c.String("repo")
	if url == "" {
		return nil, usagef("which repository? give --repo PATH or set CAIRN_REPOSITORY")
	}
	b, err := openURL(url)
	if err != nil {
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
	if err != nil {
		return nil, noRepository(err, c.String("repo"))
	}
	secrets, err := p.secrets(c)
	if err != nil {
		return nil, err
	}
	r, err := repo.Open(c.Context, repo.Options{Storage: b, Secrets: secrets, Cache: cacheDir(c), Observer: p.observer()})
	// Argon2id has used, and freed, as much memory as everything else together.
	debug.FreeOSMemory()
	return r, err
}

// noRepository makes a missing folder the missing repository that it is.
func noRepository(err error, url string) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w at %s", repo.ErrNoRepository, url)
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

// secrets returns what may open the repository: an identity and a passphrase.
func (p *program) secrets(c *cli.Context) ([]seal.Unlocker, error) {
	var secrets []seal.Unlocker
	if f := c.String("identity-file"); f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read identity: %w", err)
		}
		s, err := seal.ParseSecretFile(string(b))
		if err != nil {
			return nil, &statusError{statusWrongKey, fmt.Errorf("identity file %s: %w", f, err)}
		}
		secrets = append(secrets, s)
	}
	pass, err := givenPassphrase(c)
	if err != nil {
		return nil, err
	}
	if pass == nil && len(secrets) == 0 {
		if pass, err = p.ask("passphrase: "); err != nil {
			return nil, err
		}
	}
	if pass != nil {
		secrets = append(secrets, seal.Passphrase{Text: pass})
	}
	return secrets, nil
}

// givenPassphrase returns the passphrase that options or environment give,
// nil if none does.
func givenPassphrase(c *cli.Context) ([]byte, error) {
	file := c.String("password-file")
	if file == "" {
		file = os.Getenv("CAIRN_PASSWORD_FILE")
	}
	if file != "" {
		return passphraseFile(file)
	}
	if s, ok := os.LookupEnv("CAIRN_PASSWORD"); ok {
		return []byte(s), nil
	}
	if s := os.Getenv("CAIRN_PASSWORD_COMMAND"); s != "" {
		out, err := exec.CommandContext(c.Context, "/bin/sh", "-c", s).Output()
		if err != nil {
			return nil, fmt.Errorf("CAIRN_PASSWORD_COMMAND: %w", err)
		}
		return bytes.TrimRight(out, "\r\n"), nil
	}
	return nil, nil
}

func passphraseFile(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 {
		return nil, fmt.Errorf("passphrase file %s is empty", name)
	}
	return b, nil
}

// ask reads a passphrase from the terminal.
func (p *program) ask(prompt string) ([]byte, error) {
	f, ok := p.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, usagef("no passphrase: give --password-file, set CAIRN_PASSWORD_FILE, CAIRN_PASSWORD or CAIRN_PASSWORD_COMMAND, or give --identity-file")
	}
	fmt.Fprint(p.Stderr, prompt)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(p.Stderr)
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	return b, nil
}

// askNew asks for a new passphrase, twice.
func (p *program) askNew(what string) ([]byte, error) {
	a, err := p.ask(what + ": ")
	if err != nil {
		return nil, err
	}
	b, err := p.ask("again: ")
	if err != nil {
		return nil, err
	}
	switch {
	case string(a) != string(b):
		return nil, errors.New("the two passphrases differ; nothing was changed")
	case len(a) == 0:
		return nil, errors.New("the passphrase is empty; nothing was changed")
	}
	return a, nil
}

// confirm asks whether to go on with something dangerous. Without a terminal
// it needs --yes.
func (p *program) confirm(c *cli.Context, question string) error {
	if c.Bool("yes") {
		return nil
	}
	f, ok := p.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usagef("%s Give --yes to do it without being asked.", question)
	}
	fmt.Fprintf(p.Stderr, "%s Type yes to go on: ", question)
	var answer string
	fmt.Fscanln(p.Stdin, &answer)
	if answer != "yes" {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}

// argument returns the only argument of a command.
func argument(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("cairn %s takes one argument: %s", c.Command.FullName(), what)
	}
	return c.Args().First(), nil
}

// noArguments refuses arguments.
func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("cairn %s takes no arguments, but %s was given", c.Command.FullName(), strconv.Quote(c.Args().First()))
	}
	return nil
}
