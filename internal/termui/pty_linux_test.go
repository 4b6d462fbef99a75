package termui_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/internal/termui"
)

// openTerminal returns a terminal of 77 columns.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		need.Missing(t, "no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		need.Missing(t, "no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 77, Row: 20}); err != nil {
		t.Fatal(err)
	}
	return slave
}

func TestDetectTerminal(t *testing.T) {
	tty := openTerminal(t)
	if !termui.IsTerminal(tty) || termui.Width(tty) != 77 {
		t.Errorf("terminal: %v, width %d", termui.IsTerminal(tty), termui.Width(tty))
	}
	for _, tc := range []struct {
		env      []string
		terminal bool
		interval time.Duration
	}{
		{nil, true, 100 * time.Millisecond},
		{[]string{"TERM", "xterm", "NO_COLOR", "1"}, true, 100 * time.Millisecond},
		{[]string{"TERM", "dumb"}, false, time.Minute},
		{[]string{"CI", "true"}, false, time.Minute},
		{[]string{"CI", "false"}, true, 100 * time.Millisecond},
		{[]string{"CAIRN_PROGRESS_FPS", "20"}, true, 50 * time.Millisecond},
	} {
		o, err := termui.DetectProgress(tty, env(tc.env...), false, false)
		if err != nil || o.Terminal != tc.terminal || o.Interval != tc.interval || o.Width() != 77 {
			t.Errorf("%q: %+v, %v", tc.env, o, err)
		}
	}
}
