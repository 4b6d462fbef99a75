package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/backend/open"
	"github.com/cairn-backup/cairn/bench/tune"
	"github.com/cairn-backup/cairn/retention"
)

// completeCommand is what the scripts below call: the words of a command line
// up to the cursor follow it, the last one as far as it is typed. It prints
// what can stand there, a line each, or nothing where a file name is wanted.
const completeCommand = "__complete"

const bashCompletion = `_cairn() {
  local IFS=$'\n'
  COMPREPLY=($("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _cairn cairn
`

const zshCompletion = `#compdef cairn
_cairn() {
  local -a candidates
  candidates=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "${candidates[1]}" ]]; then compadd -- "${candidates[@]}"; else _files; fi
}
if [[ "${funcstack[1]}" == _cairn ]]; then _cairn "$@"; else compdef _cairn cairn; fi
`

const fishCompletion = `function __cairn_complete
  set -l words (commandline -opc)
  set -e words[1]
  cairn __complete $words "$(commandline -ct)" 2>/dev/null
end
complete -c cairn -a '(__cairn_complete)'
`

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
			script, ok := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[shell]
			if !ok {
				return usagef("no completion for %q: want bash, zsh or fish", shell)
			}
			p.text(script)
			return nil
		},
	}
}

// complete prints what can stand in place of the last word.
func (p *program) complete(ctx context.Context, words []string) {
	words, done := rejoin(words)
	if len(words) == 0 {
		return
	}
	last := words[len(words)-1]
	app := p.app()
	line := readLine(app, words[:len(words)-1])
	var candidates []string
	name, _, hasValue := strings.Cut(last, "=")
	switch {
	case line.option != "":
		candidates = line.values(ctx, line.option)
	case line.noOptions || !strings.HasPrefix(last, "-"):
		candidates = line.arguments(ctx, app)
	case hasValue:
		for _, v := range line.values(ctx, strings.TrimLeft(name, "-")) {
			candidates = append(candidates, name+"="+v)
		}
	default:
		candidates = optionNames(app, line.path)
	}
	for _, s := range candidates {
		if strings.HasPrefix(s, last) {
			fmt.Fprintln(p.Stdout, s[done:])
		}
	}
}

// rejoin undoes what bash does to --option=value, which it splits at the sign.
// done is how much of the last word is not bash's to replace.
func rejoin(words []string) (joined []string, done int) {
	for i := 0; i < len(words); i++ {
		if words[i] != "=" || len(joined) == 0 {
			joined, done = append(joined, words[i]), 0
			continue
		}
		option := &joined[len(joined)-1]
		*option += "="
		done = len(*option)
		if i+1 < len(words) {
			i++
			*option += words[i]
		}
	}
	return joined, done
}

// commandLine is what stands before the word to complete.
type commandLine struct {
	path       []*cli.Command
	option     string // wants its value now
	noOptions  bool   // after --
	args       int
	repository string
}

func readLine(app *cli.App, words []string) commandLine {
	l := commandLine{repository: os.Getenv("CAIRN_REPOSITORY")}
	commands := app.Commands
	for _, w := range words {
		switch {
		case l.option != "":
			if l.option == "repo" {
				l.repository = w
			}
			l.option = ""
		case w == "--":
			l.noOptions = true
		case l.noOptions || len(w) < 2 || w[0] != '-':
			if c := findCommand(commands, w); c != nil && l.args == 0 {
				l.path, commands = append(l.path, c), c.Subcommands
			} else {
				l.args++
			}
		default:
			name, value, hasValue := strings.Cut(strings.TrimLeft(w, "-"), "=")
			f, _ := findFlag(app, l.path, name)
			switch {
			case f == nil || !takesValue(f):
			case !hasValue && optionalValues[name] == "":
				l.option = f.Names()[0]
			case f.Names()[0] == "repo":
				l.repository = value
			}
		}
	}
	return l
}

// arguments are the commands, or what the command wants as an argument.
func (l commandLine) arguments(ctx context.Context, app *cli.App) []string {
	commands := app.Commands
	name := ""
	if len(l.path) > 0 {
		last := l.path[len(l.path)-1]
		commands, name = last.Subcommands, last.Name
	}
	switch name {
	case "ls", "cat", "restore", "diff":
		return append(l.ids(ctx, "snapshots/"), "latest")
	case "forget":
		return l.ids(ctx, "snapshots/")
	case "remove":
		return l.ids(ctx, "keys/")
	case "completion":
		return []string{"bash", "zsh", "fish"}
	case "help", "man":
		commands = app.Commands
	}
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return names
}

// values are those that an option can have.
func (l commandLine) values(ctx context.Context, option string) []string {
	switch option {
	case "chunker":
		return []string{"fastcdc", "fastcdc-prf", "rabin"}
	case "compression":
		return []string{"fastest", "default", "better"}
	case "prefer":
		return []string{tune.Balance.String(), tune.Speed.String(), tune.Size.String()}
	case "overwrite":
		return []string{"always", "if-changed", "if-newer", "never"}
	case "preset":
		return slices.Sorted(maps.Keys(retention.Presets))
	case "group-by":
		return []string{"host,source", "host", "source", "tag", "none"}
	case "parent":
		return append(l.ids(ctx, "snapshots/"), "latest", "none")
	case "snapshot":
		return append(l.ids(ctx, "snapshots/"), "latest")
	}
	return nil
}

func optionNames(app *cli.App, path []*cli.Command) []string {
	flags := append(slices.Clone(app.Flags), cli.HelpFlag)
	for _, c := range path {
		flags = append(flags, c.Flags...)
	}
	var names []string
	for _, f := range flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				names = append(names, "--"+n)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ids are the beginnings of the IDs below a folder of the repository: names of
// objects, which need no key. Waiting for a slow storage would freeze the shell.
func (l commandLine) ids(ctx context.Context, folder string) []string {
	b, err := open.URL(l.repository)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var ids []string
	for info, err := range b.List(ctx, folder) {
		if err != nil {
			break
		}
		id := strings.TrimPrefix(info.Name, folder)
		if len(id) >= 8 && strings.Trim(id, "0123456789abcdef") == "" {
			ids = append(ids, id[:8])
		}
	}
	slices.Sort(ids)
	return ids
}
