package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

// release is set by the linker (-X main.release=...) in releases.
var release = ""

// version returns the program's version: that of the release, or of the
// module, or the commit it was built from.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print version and build",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if p.json != nil {
				p.json.Write("summary", map[string]any{"version": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
				return nil
			}
			fmt.Fprintf(p.Stdout, "cairn %s, built with %s for %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a completion script",
		ArgsUsage: "bash|zsh|fish",
		Description: "bash: source <(cairn completion bash)\n" +
			"zsh:  source <(cairn completion zsh)\n" +
			"fish: cairn completion fish | source",
		Action: func(c *cli.Context) error {
			shell, err := argument(c, "bash, zsh or fish")
			if err != nil {
				return err
			}
			switch shell {
			case "bash":
				fmt.Fprint(p.Stdout, bashCompletion)
			case "zsh":
				fmt.Fprint(p.Stdout, zshCompletion)
			case "fish":
				s, err := c.App.ToFishCompletion()
				if err != nil {
					return fmt.Errorf("make completion script: %w", err)
				}
				fmt.Fprint(p.Stdout, s)
			default:
				return usagef("no completion for %q: want bash, zsh or fish", shell)
			}
			return nil
		},
	}
}

// The program itself says what can come next when it is called with the
// option below, which urfave/cli understands.
const bashCompletion = `_cairn() {
  local cur words
  cur="${COMP_WORDS[COMP_CWORD]}"
  words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  if [[ "$cur" == -* ]]; then words+=("$cur"); fi
  COMPREPLY=($(compgen -o default -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o default -F _cairn cairn
`

const zshCompletion = `#compdef cairn
_cairn() {
  local -a options
  local cur="${words[-1]}"
  if [[ "$cur" == -* ]]; then
    options=("${(@f)$(${words[@]:0:#words[@]-1} ${cur} --generate-bash-completion 2>/dev/null)}")
  else
    options=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  fi
  if [[ "${options[1]}" != "" ]]; then _describe 'values' options; fi
  _files
}
compdef _cairn cairn
`

func (p *program) manCommand() *cli.Command {
	return &cli.Command{
		Name:        "man",
		Usage:       "print a manual page",
		ArgsUsage:   "[COMMAND]",
		Description: "cairn man | man -l -",
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				s, err := c.App.ToManWithSection(1)
				if err != nil {
					return fmt.Errorf("make manual page: %w", err)
				}
				fmt.Fprint(p.Stdout, s)
				return nil
			}
			name, err := argument(c, "a command")
			if err != nil {
				return err
			}
			cmd := findCommand(c.App.Commands, name)
			if cmd == nil {
				return usagef("there is no command %q", name)
			}
			fmt.Fprint(p.Stdout, commandPage(c.App, cmd))
			return nil
		},
	}
}

// commandPage is the manual page of one command, in roff.
func commandPage(app *cli.App, cmd *cli.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH CAIRN-%s 1\n.SH NAME\ncairn %s \\- %s\n", strings.ToUpper(cmd.Name), cmd.Name, roff(cmd.Usage))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B cairn\n[global options]\n.B %s\n[options] %s\n", cmd.Name, roff(cmd.ArgsUsage))
	if cmd.Description != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(cmd.Description))
	}
	if len(cmd.Subcommands) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, s := range cmd.Subcommands {
			fmt.Fprintf(&b, ".SS %s %s\n%s\n", s.Name, roff(s.ArgsUsage), roff(s.Usage))
			writeOptions(&b, s.Flags)
		}
	}
	if len(cmd.Flags) > 0 {
		b.WriteString(".SH OPTIONS\n")
		writeOptions(&b, cmd.Flags)
	}
	b.WriteString(".SH GLOBAL OPTIONS\n")
	writeOptions(&b, app.Flags)
	b.WriteString(".SH EXIT STATUS\n0 all is well; 1 failed; 3 done, but some source data could not be read; 10 no such repository; " +
		"11 fenced, run again; 12 wrong passphrase or key; 13 damage found; 64 wrong usage; 130 interrupted\n")
	return b.String()
}

func writeOptions(b *strings.Builder, flags []cli.Flag) {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		var names []string
		for _, n := range f.Names() {
			if len(n) == 1 {
				names = append(names, "\\-"+n)
			} else {
				names = append(names, "\\-\\-"+n)
			}
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", strings.Join(names, ", "), roff(strings.ReplaceAll(d.GetUsage(), "`", "")))
	}
}

func roff(s string) string {
	return strings.NewReplacer("\\", "\\e", "-", "\\-", "\n.", "\n\\&.").Replace(s)
}
