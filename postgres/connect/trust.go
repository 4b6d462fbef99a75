package connect

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// checkTrust refuses what libpq would refuse, or heed, and pgx would not, where the
// server's certificate is verified.
func (t *Target) checkTrust() error {
	if t.params["sslrootcert"] == "system" {
		t.params["sslmode"], t.params["sslrootcert"] = "verify-full", systemRoots()
	}
	mode := t.params["sslmode"]
	home, err := os.UserHomeDir()
	if err != nil || !strings.HasPrefix(mode, "verify-") {
		return nil
	}
	root, revoked := filepath.Join(home, ".postgresql", "root.crt"), filepath.Join(home, ".postgresql", "root.crl")
	if _, err := os.Stat(root); err != nil && t.params["sslrootcert"] == "" {
		return fmt.Errorf("sslmode=%s needs the certificate of the authority that is trusted: name it with PGSSLROOTCERT or put it at %s; PGSSLROOTCERT=system trusts those that this machine trusts", mode, root)
	}
	if _, err := os.Stat(revoked); err == nil {
		return fmt.Errorf("sslmode=%s: there is a list of revoked certificates, %s, and such lists are not read: move it away if its loss can be borne", mode, revoked)
	}
	return nil
}

// systemRoots is the file of the authorities that this machine trusts. Client programs
// before version 16 know no sslrootcert=system; should there be none of these files they
// fail.
func systemRoots() string {
	for _, file := range []string{os.Getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return "system"
}

// tlsVersions sets the limits of the versions of TLS, which pgx does not know.
func (t *Target) tlsVersions() error {
	versions := map[string]uint16{"": 0, "TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
	least, ok := versions[t.params["ssl_min_protocol_version"]]
	most, ok2 := versions[t.params["ssl_max_protocol_version"]]
	if !ok || !ok2 {
		return errors.New("ssl_min_protocol_version and ssl_max_protocol_version are one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3")
	}
	configs := []*tls.Config{t.config.TLSConfig}
	for _, f := range t.config.Fallbacks {
		configs = append(configs, f.TLSConfig)
	}
	for _, c := range configs {
		if c != nil {
			c.MinVersion, c.MaxVersion = least, most
		}
	}
	return nil
}
