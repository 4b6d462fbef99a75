// Command cairn makes, keeps and restores backups in a deduplicating,
// encrypted repository.
//
// The engine is in the packages below the module's root; here is only what a
// person or a script sees: one file a command, app.go for what they share,
// args.go for the order of arguments, errors.go for words and exit statuses.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	// Most of the memory is large buffers without pointers, which the collector need not look
	// through: to run it each time that the heap has grown by a fifth costs next to no time.
	debug.SetGCPercent(20)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once, if it does not come to an end.
	context.AfterFunc(ctx, stop)
	status := run(ctx, os.Args, terminal{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	stop()
	os.Exit(status)
}
