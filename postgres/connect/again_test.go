package connect_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// Of several servers, a further connection goes to the one that the first goes to, even if the others
// answer by now.
func TestConfigLike(t *testing.T) {
	a, b := pgtest.Start(t), pgtest.Start(t)
	clean(t)
	target, err := connect.Parse(fmt.Sprintf("postgres://postgres@/postgres?host=%s,%s&port=%s,%s", a.SocketDir(), b.SocketDir(), a.Port(), b.Port()))
	if err != nil {
		t.Fatal(err)
	}
	server := func(c *pgx.Conn) (dir string) {
		t.Helper()
		if err := c.QueryRow(t.Context(), "SELECT current_setting('data_directory')").Scan(&dir); err != nil {
			t.Fatal(err)
		}
		c.Close(context.Background())
		return dir
	}
	a.Stop()
	first, err := target.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	like := target.ConfigLike("template1", first)
	a.Restart()
	second, err := pgx.ConnectConfig(t.Context(), like)
	if err != nil {
		t.Fatal(err)
	}
	if got := second.Config().Database; got != "template1" {
		t.Errorf("connected to database %s", got)
	}
	if one, other := server(first), server(second); one != other {
		t.Errorf("the first connection leads to %s, the second to %s", one, other)
	}
	third, err := target.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	if got := server(third); got != a.DataDir() {
		t.Errorf("without that it would be %s too: the test shows nothing", got)
	}
}
