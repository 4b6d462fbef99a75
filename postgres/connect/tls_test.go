package connect_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// issue makes a certificate, signed by a; by itself if a is nil.
func (a *authority) issue(t *testing.T, name string, hosts ...string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if a == nil {
		c.IsCA, c.BasicConstraintsValid = true, true
		c.KeyUsage |= x509.KeyUsageCertSign
		a = &authority{cert: c, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{c, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// keyPEM gives the key, encrypted if there is a password.
func (a *authority) keyPEM(t *testing.T, password string) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	if password != "" {
		//lint:ignore SA1019 it is the one encryption of keys that both libpq and pgx read
		if block, err = x509.EncryptPEMBlock(rand.Reader, block.Type, der, []byte(password), x509.PEMCipherAES256); err != nil {
			t.Fatal(err)
		}
	}
	return pem.EncodeToMemory(block)
}

func TestTLS(t *testing.T) {
	ours := (*authority)(nil).issue(t, "ours")
	theirs := (*authority)(nil).issue(t, "theirs")
	server := ours.issue(t, "server", "localhost", "db.example")
	s := pgtest.Start(t, pgtest.Listen(
		"hostnossl all all all reject",
		"hostssl all cairn_owner all cert",
		"hostssl all all all scram-sha-256"),
		pgtest.File("server.crt", server.pem), pgtest.File("server.key", server.keyPEM(t, "")), pgtest.File("ca.crt", ours.pem),
		pgtest.Setting("ssl", "on"), pgtest.Setting("ssl_cert_file", "server.crt"), pgtest.Setting("ssl_key_file", "server.key"), pgtest.Setting("ssl_ca_file", "ca.crt"))
	pgtest.Globals(t, s)
	s.Exec("postgres", "ALTER ROLE cairn_owner LOGIN;")

	files := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(files, name)
		write(t, path, string(text), 0o600)
		return path
	}
	client := ours.issue(t, "cairn_owner")
	impostor := ours.issue(t, "somebody")
	ca, other := file("ours.crt", ours.pem), file("theirs.crt", theirs.pem)
	cert, key := file("client.crt", client.pem), file("client.key", client.keyPEM(t, ""))
	locked := file("locked.key", client.keyPEM(t, "of the key"))
	wrong, wrongKey := file("wrong.crt", impostor.pem), file("wrong.key", impostor.keyPEM(t, ""))
	write(t, filepath.Join(files, "services"), "[locked]\nsslpassword=of the key\n[mistaken]\nsslpassword=hunter2\n", 0o600)

	at := func(host, user, params string) string {
		return "postgres://" + user + "@" + net.JoinHostPort(host, s.Port()) + "/postgres?" + params
	}
	for _, c := range []struct {
		name, url string
		want      string // of the connection; or, after "!", of the error
	}{
		{"prefer", at("localhost", "postgres", ""), "ssl t TLSv1.3"},
		{"require", at("127.0.0.1", "postgres", "sslmode=require"), "ssl t TLSv1.3"},
		{"verify-full", at("localhost", "postgres", "sslmode=verify-full&sslrootcert="+ca), "ssl t TLSv1.3"},
		{"verify-full with an address", at("db.example", "postgres", "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert="+ca), "ssl t TLSv1.3"},
		{"verify-full of another name", at("127.0.0.1", "postgres", "sslmode=verify-full&sslrootcert="+ca), "!the server's certificate is not for this host"},
		{"verify-ca of another name", at("127.0.0.1", "postgres", "sslmode=verify-ca&sslrootcert="+ca), "ssl t TLSv1.3"},
		{"verify-ca of another authority", at("localhost", "postgres", "sslmode=verify-ca&sslrootcert="+other), "!is of an authority that is not trusted here; name the authority's certificate with PGSSLROOTCERT"},
		{"verify-full of another authority", at("localhost", "postgres", "sslmode=verify-full&sslrootcert="+other), "!is of an authority that is not trusted here"},
		{"require of another authority", at("localhost", "postgres", "sslmode=require&sslrootcert="+other), "!is of an authority that is not trusted here"},
		{"verify-full without an authority", at("localhost", "postgres", "sslmode=verify-full"), "!sslmode=verify-full needs the certificate of the authority that is trusted: name it with PGSSLROOTCERT or put it at "},
		{"authorities of the system", at("localhost", "postgres", "sslrootcert=system"), "!is of an authority that is not trusted here"},
		{"disable", at("localhost", "postgres", "sslmode=disable"), "!pg_hba.conf rejects connection"},
		{"allow", at("localhost", "postgres", "sslmode=allow"), "ssl t TLSv1.3"},
		{"older version", at("localhost", "postgres", "sslmode=require&ssl_max_protocol_version=TLSv1.2"), "ssl t TLSv1.2"},
		{"client certificate", at("localhost", "cairn_owner", "sslmode=verify-full&sslrootcert="+ca+"&sslcert="+cert+"&sslkey="+key), "ssl t TLSv1.3 /CN=cairn_owner"},
		{"locked key", at("localhost", "cairn_owner", "service=locked&sslmode=require&sslcert="+cert+"&sslkey="+locked), "ssl t TLSv1.3 /CN=cairn_owner"},
		{"no client certificate", at("localhost", "cairn_owner", "sslmode=require"), "!connection requires a valid client certificate"},
		{"certificate of another", at("localhost", "cairn_owner", "sslmode=require&sslcert="+wrong+"&sslkey="+wrongKey), "!certificate authentication failed"},
		{"key of another", at("localhost", "cairn_owner", "sslmode=require&sslcert="+cert+"&sslkey="+wrongKey), "!private key does not match"},
		{"wrong password of the key", at("localhost", "cairn_owner", "service=mistaken&sslmode=require&sslcert="+cert+"&sslkey="+locked), "!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, "PGPASSWORD="+pgtest.Password, "PGSERVICEFILE="+filepath.Join(files, "services"))
			got, err := func() (string, error) {
				target, err := connect.Parse(c.url)
				if err != nil {
					return "", err
				}
				conn, err := target.Connect(t.Context(), "postgres")
				if err != nil {
					return "", err
				}
				conn.Close(t.Context())
				return ask(t, s, target, "postgres"), nil
			}()
			want, fails := strings.CutPrefix(c.want, "!")
			switch {
			case fails && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%q, %v; want the error %q", got, err, want)
			case fails && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("a password in the error: %v", err)
			case !fails && (err != nil || !strings.Contains(got, want)):
				t.Errorf("%q, %v; want %q", got, err, want)
			}
			if s.Version() < 16 && strings.Contains(c.url, "=system") {
				return // which libpq takes for the name of a file
			}
			if _, perr := psql(s, os.Environ(), "-d", c.url); (perr == nil) != (err == nil) {
				t.Errorf("libpq: %v, and here: %v", perr, err)
			}
		})
	}
	t.Run("authorities of the system, programs too", func(t *testing.T) {
		clean(t, "PGPASSWORD="+pgtest.Password, "SSL_CERT_FILE="+ca)
		target, err := connect.Parse(at("localhost", "postgres", "sslrootcert=system"))
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, s, target, "postgres"); !strings.Contains(got, "ssl t") {
			t.Error(got)
		}
	})
	t.Run("files at home", func(t *testing.T) {
		home := clean(t, "PGPASSWORD="+pgtest.Password)
		url := at("localhost", "cairn_owner", "sslmode=verify-full")
		write(t, filepath.Join(home, ".postgresql", "root.crt"), string(ours.pem), 0o600)
		write(t, filepath.Join(home, ".postgresql", "postgresql.crt"), string(client.pem), 0o600)
		write(t, filepath.Join(home, ".postgresql", "postgresql.key"), string(client.keyPEM(t, "")), 0o600)
		target, err := connect.Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, s, target, "postgres"); !strings.Contains(got, "ssl t TLSv1.3 /CN=cairn_owner") {
			t.Error(got)
		}
		write(t, filepath.Join(home, ".postgresql", "root.crl"), "", 0o600)
		if _, err := connect.Parse(url); err == nil || !strings.Contains(err.Error(), "root.crl") {
			t.Errorf("with a list of revoked certificates: %v", err)
		}
	})
}
