package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) manCommand() *cli.Command {
	return &cli.Command{
		Name:        "man",
		Usage:       "print a manual page",
		ArgsUsage:   "[COMMAND]",
		Description: "cairn man | man -l -",
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				p.text(programPage(c.App))
				return nil
			}
			name, err := argument(c, "a command")
			if err != nil {
				return err
			}
			cmd := findCommand(c.App.Commands, name)
			if cmd == nil {
				return noCommand(c.App, nil, name)
			}
			p.text(commandPage(c.App, cmd))
			return nil
		},
	}
}

// The sections that every page ends with, in roff.
const (
	environment = `.SH ENVIRONMENT
.TP
.B CAIRN_REPOSITORY
the repository, as \-\-repo
.TP
.B CAIRN_PASSWORD_FILE, CAIRN_PASSWORD, CAIRN_PASSWORD_COMMAND
a file with the passphrase, the passphrase, a command that prints it; the first that is set counts
.TP
.B CAIRN_IDENTITY_FILE, CAIRN_CACHE_DIR, CAIRN_JSON
as \-\-identity\-file, \-\-cache\-dir and \-\-json
.TP
.B CAIRN_LOG_LEVEL, LOG_LEVEL
debug is \-\-verbose, warn prints warnings only, error is \-\-quiet
.TP
.B CAIRN_PROGRESS_FPS
updates of the progress a second; 0 shows none
`
	scripts = `.SH JSON
With \-\-json the standard output is one JSON object a line, each with message_type.
If the exit status is 0, the last one is summary; otherwise it is error, with code (the exit status), message and hint, and a
summary before it says what was done all the same.
Times are RFC 3339 in UTC, sizes are bytes, what is not known is null.
A path that is not UTF\-8 has its exact bytes, in base64, as path_b64.
`
	exitStatus = `.SH EXIT STATUS
.TP
.B 0
all is well
.TP
.B 1
failed; nothing was changed, or what was is said
.TP
.B 3
done, but some source data could not be read; the snapshot is marked as incomplete
.TP
.B 10
there is no such repository
.TP
.B 11
fenced off by another run, or lost a race; run again
.TP
.B 12
wrong passphrase or key
.TP
.B 13
damage was found
.TP
.B 64
wrong usage
.TP
.B 130
interrupted
`
)

// programPage is the manual page of the program, in roff.
func programPage(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH CAIRN 1\n.SH NAME\ncairn \\- %s\n", roff(app.Usage))
	b.WriteString(".SH SYNOPSIS\n.B cairn\n[global options]\n.I COMMAND\n[options] [arguments]\n")
	b.WriteString(".SH DESCRIPTION\ncairn makes, keeps and restores backups in a deduplicating, encrypted repository.\n" +
		"Options, the global ones too, may stand before and after arguments; what follows \\-\\- is no option.\n")
	b.WriteString(".SH COMMANDS\n\\(lqcairn man COMMAND\\(rq prints the page of a command.\n")
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(c.Name+" "+c.ArgsUsage)), roff(c.Usage))
	}
	b.WriteString(".SH GLOBAL OPTIONS\n")
	writeOptions(&b, app.Flags)
	b.WriteString(environment + scripts + exitStatus)
	return b.String()
}

// commandPage is the manual page of one command, in roff.
func commandPage(app *cli.App, cmd *cli.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH CAIRN\\-%s 1\n.SH NAME\ncairn %s \\- %s\n", strings.ToUpper(cmd.Name), cmd.Name, roff(cmd.Usage))
	args := cmd.ArgsUsage
	if needsCommand(cmd) {
		args = "COMMAND [options]"
	}
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B cairn\n[global options]\n.B %s\n[options] %s\n", cmd.Name, roff(args))
	if cmd.Description != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(cmd.Description))
	}
	if len(cmd.Subcommands) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, s := range cmd.Subcommands {
			fmt.Fprintf(&b, ".SS %s\n%s\n", roff(strings.TrimSpace(s.Name+" "+s.ArgsUsage)), roff(s.Usage))
			writeOptions(&b, s.Flags)
		}
	}
	if len(cmd.Flags) > 0 {
		b.WriteString(".SH OPTIONS\n")
		writeOptions(&b, cmd.Flags)
	}
	b.WriteString(".SH GLOBAL OPTIONS\n")
	writeOptions(&b, app.Flags)
	b.WriteString(environment + scripts + exitStatus)
	return b.String()
}

func writeOptions(b *strings.Builder, flags []cli.Flag) {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok || f.Names()[0] == "help" {
			continue
		}
		var names []string
		for _, n := range f.Names() {
			names = append(names, strings.Repeat("-", min(len(n), 2))+n)
		}
		// The value's name stands in backquotes in the usage.
		usage, value := d.GetUsage(), ""
		if _, after, ok := strings.Cut(usage, "`"); ok {
			value, _, _ = strings.Cut(after, "`")
		}
		fmt.Fprintf(b, ".TP\n.BI %s\n%s\n", roffWord(strings.Join(names, ", ")+" ")+" "+roffWord(value), roff(strings.ReplaceAll(usage, "`", "")))
	}
}

// roff escapes text; a line that begins with a dot would be a request.
func roff(s string) string {
	s = strings.NewReplacer("\\", "\\e", "-", "\\-", "\n.", "\n\\&.", "\n'", "\n\\&'").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = "\\&" + s
	}
	return s
}

// roffWord is an argument of a request.
func roffWord(s string) string { return `"` + strings.ReplaceAll(roff(s), `"`, `\(dq`) + `"` }
