package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/cairn-backup/cairn/seal"
)

// secrets returns what may open the repository: an identity and a passphrase.
func (p *program) secrets(c *cli.Context) ([]seal.Unlocker, error) {
	var secrets []seal.Unlocker
	if f := c.String("identity-file"); f != "" {
		s, err := identityFile(f)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, s)
	}
	pass, err := p.givenPassphrase(c)
	if err != nil {
		return nil, err
	}
	if pass == nil && len(secrets) == 0 {
		pass, err = p.ask(c.Context, "passphrase: ", "give --password-file, set CAIRN_PASSWORD_FILE, CAIRN_PASSWORD or CAIRN_PASSWORD_COMMAND, or give --identity-file")
		if err != nil {
			return nil, err
		}
	}
	if pass != nil {
		secrets = append(secrets, seal.Passphrase{Text: pass})
	}
	return secrets, nil
}

// A recovery sheet has its key on several lines, each but the last of which
// ends with a hyphen.
var continued = regexp.MustCompile(`-[ \t]*\r?\n[ \t]*`)

func identityFile(name string) (seal.Unlocker, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	s, err := seal.ParseSecretFile(continued.ReplaceAllString(string(b), "-"))
	if err != nil {
		return nil, &statusError{statusWrongKey, fmt.Errorf("identity file %s: %w", name, err)}
	}
	return s, nil
}

// givenPassphrase returns the passphrase that options or environment give,
// nil if none does.
func (p *program) givenPassphrase(c *cli.Context) ([]byte, error) {
	file := c.String("password-file")
	if file == "" {
		file = os.Getenv("CAIRN_PASSWORD_FILE")
	}
	if file != "" {
		return passphraseFile(file)
	}
	if s := os.Getenv("CAIRN_PASSWORD"); s != "" {
		return []byte(s), nil
	}
	s := os.Getenv("CAIRN_PASSWORD_COMMAND")
	if s == "" {
		return nil, nil
	}
	cmd := exec.CommandContext(c.Context, "/bin/sh", "-c", s)
	cmd.Stderr = p.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("get the passphrase: the command in CAIRN_PASSWORD_COMMAND ended with %w", err)
	}
	if out = bytes.TrimRight(out, "\r\n"); len(out) == 0 {
		return nil, errors.New("get the passphrase: the command in CAIRN_PASSWORD_COMMAND printed nothing")
	}
	return out, nil
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

// newLock makes the lock for a new key: for --recipient, else a passphrase
// from the file that the option names, from the environment if that is
// --password-file, or from the terminal.
func (p *program) newLock(c *cli.Context, fileOption string) (seal.Locker, error) {
	if s := c.String("recipient"); s != "" {
		r, err := seal.ParseRecipient(s)
		if err != nil {
			return nil, usagef("--recipient: %v", err)
		}
		return r, nil
	}
	var pass []byte
	var err error
	instead := "give --" + fileOption
	if fileOption == "password-file" {
		pass, err = p.givenPassphrase(c)
		instead += ", or set CAIRN_PASSWORD_FILE, CAIRN_PASSWORD or CAIRN_PASSWORD_COMMAND"
	} else if f := c.String(fileOption); f != "" {
		pass, err = passphraseFile(f)
	}
	if err == nil && pass == nil {
		pass, err = p.askNew(c.Context, instead)
	}
	if err != nil {
		return nil, err
	}
	return seal.Passphrase{Text: pass}, nil
}

// onTerminal returns the terminal that the program reads from, nil if it
// reads something else.
func (p *program) onTerminal() *os.File {
	if f, ok := p.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// ask reads a passphrase from the terminal. instead says what to do where
// there is none.
func (p *program) ask(ctx context.Context, prompt, instead string) ([]byte, error) {
	f := p.onTerminal()
	if f == nil {
		return nil, usagef("no passphrase, and no terminal to ask for it: %s", instead)
	}
	state, err := term.GetState(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	fmt.Fprint(p.Stderr, prompt)
	pass, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(int(f.Fd())) })
	fmt.Fprintln(p.Stderr)
	if err != nil {
		term.Restore(int(f.Fd()), state) // an interrupted read leaves echo off
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	return pass, nil
}

// interruptible runs a read that does not know of contexts. When ctx is done it
// returns without waiting for it: the program is about to end.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := read()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// askNew asks for a new passphrase, twice.
func (p *program) askNew(ctx context.Context, instead string) ([]byte, error) {
	a, err := p.ask(ctx, "new passphrase: ", instead)
	if err != nil {
		return nil, err
	}
	b, err := p.ask(ctx, "again: ", instead)
	if err != nil {
		return nil, err
	}
	switch {
	case !bytes.Equal(a, b):
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
	if p.onTerminal() == nil {
		return usagef("%s Give --yes to do it without being asked.", question)
	}
	fmt.Fprintf(p.Stderr, "%s Type yes to go on: ", question)
	answer, err := interruptible(c.Context, func() (string, error) { return bufio.NewReader(p.Stdin).ReadString('\n') })
	if err != nil {
		fmt.Fprintln(p.Stderr) // the question's line has not ended
	}
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}
