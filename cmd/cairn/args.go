package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// optionalValues are the options whose value may be left out, and what they
// mean then. Their value can only be given with "=".
var optionalValues = map[string]string{"read-data": "100%"}

// arrange brings arguments into the order that urfave/cli understands: global
// options, command, options of the command, arguments. By itself it would take
// "forget X --dry-run" for a command with two arguments, and do it for real. An
// option that neither the command nor the program has is an error here.
func arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	var global, local, rest []string
	var path []*cli.Command // command and subcommand
	var help, version bool
	commands := app.Commands
	words := slices.Clone(args[1:])
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "--" {
			rest = append(rest, noCommands(path, rest, words[i+1:])...)
			break
		}
		if len(w) < 2 || w[0] != '-' {
			if c := findCommand(commands, w); c != nil && len(rest) == 0 {
				path, commands = append(path, c), c.Subcommands
			} else {
				rest = append(rest, w)
				commands = nil
			}
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(w, "-"), "=")
		flag, isGlobal := findFlag(app, path, name)
		if flag == nil {
			if single := letters(app, path, w); single != nil {
				words = slices.Replace(words, i, i+1, single...)
				i--
				continue
			}
			return nil, usagef("there is no option %s%s%s", dashes(w), name, didYouMean(app, path, name))
		}
		if flag == cli.HelpFlag {
			help = true
			continue
		}
		if flag.Names()[0] == "version" && isGlobal {
			version = true
			continue
		}
		out := []string{w}
		if !hasValue && takesValue(flag) {
			if v, ok := optionalValues[name]; ok {
				out[0] += "=" + v
			} else if i+1 == len(words) {
				return nil, usagef("option %s%s needs a value", dashes(w), name)
			} else {
				i++
				out = append(out, words[i])
			}
		}
		if isGlobal {
			global = append(global, out...)
		} else {
			local = append(local, out...)
		}
	}
	switch {
	case help: // whatever else there is
		local, rest = []string{"--help"}, nil
	case version:
		path, local, rest = []*cli.Command{findCommand(app.Commands, "version")}, nil, nil
	}
	if len(rest) > 0 && (len(path) == 0 || needsCommand(path[len(path)-1])) {
		return nil, noCommand(app, path, rest[0])
	}
	arranged := append([]string{args[0]}, global...)
	for _, c := range path {
		arranged = append(arranged, c.Name)
	}
	arranged = append(arranged, local...)
	if len(rest) > 0 {
		arranged = append(append(arranged, "--"), rest...)
	}
	return arranged, nil
}

// needsCommand reports whether a command does nothing without a subcommand. That of the
// others (bench) have one takes nothing but paths.
func needsCommand(c *cli.Command) bool { return len(c.Subcommands) > 0 && c.ArgsUsage == "" }

// noCommands keeps urfave/cli from taking the first argument for a subcommand where -- said
// that it is none: it is a path of that name.
func noCommands(path []*cli.Command, before, args []string) []string {
	if len(path) == 0 || len(before) > 0 || len(args) == 0 || findCommand(path[len(path)-1].Subcommands, args[0]) == nil || needsCommand(path[len(path)-1]) {
		return args
	}
	return append([]string{"./" + args[0]}, args[1:]...)
}

// noCommand is the error for a word in the place of a command.
func noCommand(app *cli.App, path []*cli.Command, word string) error {
	commands := app.Commands
	if len(path) > 0 {
		commands = path[len(path)-1].Subcommands
	}
	text := fmt.Sprintf("there is no command %q", strings.TrimSpace(commandNames(path)+" "+word))
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	if like := closest(word, names); like != "" {
		return usagef("%s; did you mean %s?", text, like)
	}
	return usagef("%s; see cairn help%s", text, commandNames(path))
}

// didYouMean names the option that is most like one that does not exist.
func didYouMean(app *cli.App, path []*cli.Command, name string) string {
	if like := closest("--"+name, optionNames(app, path)); like != "" && len(name) > 1 {
		return fmt.Sprintf("; did you mean %s?", like)
	}
	return "; see cairn help" + commandNames(path)
}

// closest returns the word that s is a beginning of or mistyped for, with one
// letter in three wrong at most. It returns "" if there is none.
func closest(s string, words []string) string {
	best, least := "", 1+len(strings.TrimLeft(s, "-"))/3
	for _, w := range words {
		if strings.HasPrefix(w, s) && len(s) > 2 {
			return w
		}
		if d := distance(s, w); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with the
// next to make b from a (the optimal string alignment distance).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = 1 + rows[i-1][j-1]
			}
			rows[i][j] = min(rows[i][j], rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// letters splits -lR into -l and -R, as other programs do. It returns nil if
// a letter is no option, or one before the last takes a value.
func letters(app *cli.App, path []*cli.Command, w string) []string {
	if len(w) < 3 || w[1] == '-' {
		return nil
	}
	var single []string
	for i, letter := range w[1:] {
		flag, _ := findFlag(app, path, string(letter))
		if flag == nil || takesValue(flag) && i+2 < len(w) {
			return nil
		}
		single = append(single, "-"+string(letter))
	}
	return single
}

// plainUsage takes the accents of package flag out of an error.
func plainUsage(err error) string {
	s := err.Error()
	for _, m := range [...]struct {
		pattern *regexp.Regexp
		plain   string
	}{
		{regexp.MustCompile(`^invalid (?:boolean )?value ("(?:[^"\\]|\\.)*") for (?:flag )?-([^:]*): .*$`), `option --$2 can't be $1`},
		{regexp.MustCompile(`^could not parse ("(?:[^"\\]|\\.)*") as (.*) value from environment variable "([^"]*)" .*$`), `environment variable $3 can't be $1: want a $2 value`},
	} {
		s = m.pattern.ReplaceAllString(s, m.plain)
	}
	return s
}

func dashes(w string) string {
	if strings.HasPrefix(w, "--") {
		return "--"
	}
	return "-"
}

func commandNames(path []*cli.Command) string {
	var b strings.Builder
	for _, c := range path {
		b.WriteString(" " + c.Name)
	}
	return b.String()
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// findFlag looks for an option, first in the command, then in the program.
func findFlag(app *cli.App, path []*cli.Command, name string) (f cli.Flag, isGlobal bool) {
	for _, c := range slices.Backward(path) {
		for _, f := range c.Flags {
			if slices.Contains(f.Names(), name) {
				return f, false
			}
		}
	}
	if slices.Contains(cli.HelpFlag.Names(), name) {
		return cli.HelpFlag, false // it is about the command, if there is one
	}
	for _, f := range app.Flags {
		if slices.Contains(f.Names(), name) {
			return f, true
		}
	}
	return nil, false
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
