package main

import (
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
	commands := app.Commands
	words := args[1:]
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "--" {
			rest = append(rest, words[i+1:]...)
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
			return nil, usagef("there is no option %s%s; see cairn help%s", dashes(w), name, commandNames(path))
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
	arranged := append([]string{args[0]}, global...)
	for _, c := range path {
		arranged = append(arranged, c.Name)
	}
	arranged = append(arranged, local...)
	if len(path) == 0 && len(rest) > 0 {
		return nil, usagef("there is no command %q; see cairn help", rest[0])
	}
	if len(rest) > 0 {
		arranged = append(append(arranged, "--"), rest...)
	}
	return arranged, nil
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
	for _, f := range append(slices.Clone(app.Flags), cli.HelpFlag, cli.VersionFlag) {
		if slices.Contains(f.Names(), name) {
			// Help is that of the command, if there is one.
			return f, f != cli.HelpFlag || len(path) == 0
		}
	}
	return nil, false
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
