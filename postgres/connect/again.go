package connect

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ConfigLike gives the configuration of a further connection to the very server that conn leads to, where several
// hosts or addresses were possible: connections that share a snapshot must. It contains the password.
func (t *Target) ConfigLike(db string, conn *pgx.Conn) *pgx.ConnConfig {
	c := t.Config(db)
	at := t.connected(conn)
	ways := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	ways = slices.DeleteFunc(ways, func(w *pgconn.FallbackConfig) bool {
		return w.Host != at.name && w.Host != at.addr || fmt.Sprint(w.Port) != at.port
	})
	if len(ways) == 0 { // the server is known under no name: conn came another way
		return c
	}
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = ways[0].Host, ways[0].Port, ways[0].TLSConfig, ways[1:]
	if at.addr != "" {
		c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{at.addr}, nil }
	}
	return c
}
