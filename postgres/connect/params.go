package connect

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// use is what becomes of a parameter of libpq.
type use int

const (
	both     use = iota // for us and for client programs
	clients             // for client programs alone: it tunes what changes no outcome, or is done here by other means
	ignored             // means nothing here
	refused             // what it demands can't be had here, and leaving it out would be less than what was asked for
	resolved            // of no use once all parameters are known
)

// parameter is one of libpq's: https://www.postgresql.org/docs/current/libpq-connect.html
type parameter struct {
	env string // the variable of the environment that has it, "" for none
	use use
	why string // of those refused
}

// parameters are those of libpq up to version 18.
var parameters = map[string]parameter{
	"host":                 {"PGHOST", both, ""},
	"hostaddr":             {"PGHOSTADDR", clients, ""}, // by resolver
	"port":                 {"PGPORT", both, ""},
	"dbname":               {"PGDATABASE", resolved, ""},
	"user":                 {"PGUSER", both, ""},
	"password":             {"PGPASSWORD", resolved, ""},
	"passfile":             {"PGPASSFILE", resolved, ""},
	"service":              {"PGSERVICE", resolved, ""},
	"servicefile":          {"PGSERVICEFILE", resolved, ""},
	"application_name":     {"PGAPPNAME", both, ""},
	"options":              {"PGOPTIONS", both, ""},
	"connect_timeout":      {"PGCONNECT_TIMEOUT", both, ""},
	"target_session_attrs": {"PGTARGETSESSIONATTRS", both, ""},
	"channel_binding":      {"PGCHANNELBINDING", both, ""},
	"require_auth":         {"PGREQUIREAUTH", both, ""},
	"min_protocol_version": {"PGMINPROTOCOLVERSION", both, ""},
	"max_protocol_version": {"PGMAXPROTOCOLVERSION", both, ""},

	"sslmode":                  {"PGSSLMODE", both, ""},
	"sslnegotiation":           {"PGSSLNEGOTIATION", both, ""},
	"sslcert":                  {"PGSSLCERT", both, ""},
	"sslkey":                   {"PGSSLKEY", both, ""},
	"sslcertmode":              {"PGSSLCERTMODE", both, ""},
	"sslrootcert":              {"PGSSLROOTCERT", both, ""},
	"sslsni":                   {"PGSSLSNI", both, ""},
	"sslpassword":              {"", clients, ""},                        // by a callback, so that it stands in no text
	"ssl_min_protocol_version": {"PGSSLMINPROTOCOLVERSION", clients, ""}, // by tlsVersions
	"ssl_max_protocol_version": {"PGSSLMAXPROTOCOLVERSION", clients, ""},

	"krbsrvname":          {"PGKRBSRVNAME", both, ""},
	"gsslib":              {"PGGSSLIB", clients, ""},
	"gssdelegation":       {"PGGSSDELEGATION", clients, ""},
	"keepalives":          {"", clients, ""},
	"keepalives_idle":     {"", clients, ""},
	"keepalives_interval": {"", clients, ""},
	"keepalives_count":    {"", clients, ""},
	"tcp_user_timeout":    {"", clients, ""},

	"client_encoding":           {"PGCLIENTENCODING", ignored, ""}, // it is always the database's
	"fallback_application_name": {"", ignored, ""},
	"sslcompression":            {"PGSSLCOMPRESSION", ignored, ""}, // no server has it any more

	"sslcrl":             {"PGSSLCRL", refused, "lists of revoked certificates are not read"},
	"sslcrldir":          {"PGSSLCRLDIR", refused, "lists of revoked certificates are not read"},
	"requirepeer":        {"PGREQUIREPEER", refused, "who runs the server is not looked up"},
	"replication":        {"", refused, "a dump is no replication"},
	"load_balance_hosts": {"PGLOADBALANCEHOSTS", refused, "hosts are tried in the order in which they are given"},
	"gssencmode":         {"PGGSSENCMODE", refused, "connections are encrypted with TLS only"},
	"requiressl":         {"PGREQUIRESSL", refused, "write sslmode=require"},
	"scram_client_key":   {"", refused, "a password takes its place"},
	"scram_server_key":   {"", refused, "a password takes its place"},
	"oauth_issuer":       {"", refused, "OAuth is not supported"},
	"oauth_client_id":    {"", refused, "OAuth is not supported"},
}

// harmless are the values of refused parameters that demand nothing.
var harmless = map[string][]string{
	"load_balance_hosts": {"disable"},
	"gssencmode":         {"disable", "prefer"},
	"replication":        {"false", "off", "no", "0"},
	"requiressl":         {"0"},
}

// check refuses parameters that libpq does not know, and those that are not supported.
// from says where they stand.
func check(params map[string]string, from string) error {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		p, ok := parameters[name]
		if !ok {
			return fmt.Errorf("%s: there is no parameter %q: see \"Parameter Key Words\" in the documentation of libpq", from, name)
		}
		if v := params[name]; p.use == refused && v != "" && !slices.Contains(harmless[name], v) {
			return fmt.Errorf("%s: the parameter %s=%s is not supported: %s", from, name, v, p.why)
		}
	}
	return nil
}

// fromEnv gives the parameters that are in the environment, checked.
func fromEnv() (map[string]string, error) {
	params := make(map[string]string)
	for name, p := range parameters {
		if p.env == "" {
			continue
		}
		if v := os.Getenv(p.env); v != "" {
			params[name] = v
			if err := check(map[string]string{name: v}, "environment variable "+p.env); err != nil {
				return nil, err
			}
		}
	}
	return params, nil
}

// keywords writes parameters as libpq and pgx read them: name='value' ...
func keywords(params map[string]string) string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var words []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		words = append(words, name+"='"+quote.Replace(params[name])+"'")
	}
	return strings.Join(words, " ")
}
