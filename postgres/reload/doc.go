// Package reload makes of a captured database what PostgreSQL's programs take: an archive in
// the custom format ([Database.Custom]), one in a directory ([Database.Directory]), or a
// database in a server, through pg_restore ([Server]).
//
// It knows a database as a table of contents and streams, not where these are stored.
package reload
