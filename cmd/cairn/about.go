package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

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

func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Aliases:   []string{"h"},
		Usage:     "explain a command",
		ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			var path []*cli.Command
			commands := c.App.Commands
			for _, word := range c.Args().Slice() {
				cmd := findCommand(commands, word)
				if cmd == nil {
					return noCommand(c.App, path, word)
				}
				path, commands = append(path, cmd), cmd.Subcommands
			}
			words := append([]string{c.App.Name}, c.Args().Slice()...)
			return c.App.RunContext(c.Context, append(words, "--help"))
		},
	}
}
