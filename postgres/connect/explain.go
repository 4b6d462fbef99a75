package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that say why there is no connection.
const (
	wrongPassword  = "28P01"
	notAuthorized  = "28000"
	noSuchDatabase = "3D000"
	mayNot         = "42501"
	tooMany        = "53300"
	notNow         = "57P03"
)

func isCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

// Explain says what failed, why, and what to do about it, of an error of pgx from
// connecting to a database. The error wraps pgx's; it never contains a password.
func (t *Target) Explain(db string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	why, next := t.reason(db, err)
	if why == "" {
		why = plain(err)
	}
	if next != "" {
		next = "; " + next
	}
	return &connectError{fmt.Sprintf("connecting to database %s at %s as %s: %s%s", db, t.where(), t.params["user"], why, next), err}
}

// connectError says its own text: pgx's repeats it in other words.
type connectError struct {
	text  string
	cause error
}

func (e *connectError) Error() string { return e.text }
func (e *connectError) Unwrap() error { return e.cause }

// plain gives the text of an error of pgx in one line, without what Explain says.
func plain(err error) string {
	var c *pgconn.ConnectError
	if errors.As(err, &c) {
		err = c.Unwrap()
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// reason says why, and what is to be done; nothing if it knows no more than the error.
func (t *Target) reason(db string, err error) (why, next string) {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return t.serverReason(db, e)
	}
	if why, next := t.handshakeReason(err); why != "" {
		return why, next
	}
	return t.networkReason(err)
}

// serverReason is for what the server answered.
func (t *Target) serverReason(db string, e *pgconn.PgError) (why, next string) {
	why = e.Message
	switch e.Code {
	case wrongPassword:
		if t.passwordFor(db) != "" {
			return why, "the password from " + t.passwordSource() + " is not the right one"
		}
		return "the server asks for a password, and none was given", t.givePassword()
	case notAuthorized:
		return why, "the server's pg_hba.conf decides who may connect from where and how, and the role must exist; PGUSER or user@ in the URL chooses another"
	case noSuchDatabase:
		return why, "psql -l lists the databases that there are"
	case mayNot:
		return why, fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s lets it", db, t.params["user"])
	case tooMany:
		return why, "try again when others have ended, or raise max_connections or the role's limit"
	case notNow:
		return why, "try again in a while"
	}
	return why + " (SQLSTATE " + e.Code + ")", e.Hint
}

func (t *Target) passwordSource() string {
	if t.password != "" {
		return "PGPASSWORD or the service file"
	}
	return t.passwordFile
}

// givePassword says how to give a password.
func (t *Target) givePassword() string {
	how := "set PGPASSWORD, or add a line host:port:database:user:password to " + t.passwordFile
	if t.passwords.trouble != "" {
		how += " (" + t.passwords.trouble + ")"
	}
	return how
}

// handshakeReason is for servers that are not what was demanded: for certificates, the
// lack of TLS, and standbys.
func (t *Target) handshakeReason(err error) (why, next string) {
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	switch {
	case errors.As(err, &name):
		return "the server's certificate is not for this host: " + name.Error(), "name the host as its certificate does (PGHOSTADDR can give its address), or set sslmode=verify-ca if any certificate of that authority will do"
	case errors.As(err, &unknown):
		return "the server's certificate is of an authority that is not trusted here", "name the authority's certificate with PGSSLROOTCERT"
	case errors.As(err, &invalid):
		return "the server's certificate is not valid: " + invalid.Error(), ""
	case errors.As(err, &alert):
		return "the server refuses TLS as it is offered: " + alert.Error(), "a client certificate may be needed (PGSSLCERT, PGSSLKEY), or another version of TLS"
	// For these pgx has no type.
	case strings.Contains(err.Error(), "ValidateConnect failed"):
		return "none of the servers is what target_session_attrs=" + t.params["target_session_attrs"] + " demands", ""
	case strings.Contains(err.Error(), "server refused TLS connection") && t.config.TLSConfig != nil && len(t.config.Fallbacks) == 0:
		return "the server has no TLS, and sslmode=" + t.params["sslmode"] + " demands it", "have it switched on in postgresql.conf (ssl = on)"
	}
	return "", ""
}

// networkReason is for servers that are not there.
func (t *Target) networkReason(err error) (why, next string) {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		if t.bare != "" {
			next = fmt.Sprintf("for the database %s on this machine write postgres:///%[1]s", t.bare)
		}
		return "there is no host " + dns.Name, next
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket", "is the server running? PGHOST and PGPORT choose another socket's directory and port"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there", "is the server running, and does it listen on this address (listen_addresses)?"
	case errors.Is(err, fs.ErrPermission):
		return "the socket may not be used by who runs this program", ""
	case pgconn.Timeout(err):
		return "there was no answer in time", "is the address right, and does a firewall let it through? PGCONNECT_TIMEOUT waits longer"
	}
	return "", ""
}
