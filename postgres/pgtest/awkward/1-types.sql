-- Types of all kinds, and each built-in type with its extreme values.
CREATE SCHEMA kinds;
SET search_path = kinds;

CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'happy');
ALTER TYPE mood ADD VALUE 'so, so' BEFORE 'happy';
ALTER TYPE mood ADD VALUE '' BEFORE 'sad';
CREATE TYPE empty_enum AS ENUM ();
CREATE TYPE pair AS (left_one integer, "right One" text COLLATE "C");
CREATE TYPE nested AS (p pair, ps pair[], m mood);
CREATE TYPE no_fields AS ();
CREATE TYPE shell;
CREATE DOMAIN positive AS integer DEFAULT 1 NOT NULL CONSTRAINT "is positive" CHECK (VALUE > 0);
CREATE DOMAIN small_positive AS positive CHECK (VALUE < 100);
CREATE DOMAIN pairs AS pair[] CHECK (array_length(VALUE, 1) < 10);
CREATE DOMAIN code AS varchar(5) COLLATE "C" CHECK (VALUE ~ '^[A-Z]*$');
ALTER DOMAIN code ADD CONSTRAINT later CHECK (VALUE <> 'NEVER') NOT VALID;
CREATE FUNCTION apart(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 - $2';
CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = apart, multirange_type_name = many_floats);
CREATE TYPE texts AS RANGE (subtype = text, collation = "C");

CREATE TYPE number;
CREATE FUNCTION number_in(cstring) RETURNS number LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION number_out(number) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE number (INPUT = number_in, OUTPUT = number_out, LIKE = integer, DEFAULT = '42', CATEGORY = 'N', DELIMITER = ';');

CREATE TABLE numbers (
	i2 smallint, i4 integer, i8 bigint, n numeric, n2 numeric(10, 2), n3 numeric(3, -2), n4 numeric(3, 5), f4 real, f8 double precision,
	m money, b boolean, bits bit(9), vbits bit varying, mine number, many number[]);
INSERT INTO numbers VALUES
	(-32768, -2147483648, -9223372036854775808, 'NaN', -99999999.99, -99900, 0.00999, 'NaN', 'NaN', '-92233720368547758.08', false, B'000000000', B'', '-1', '{1;2}'),
	(32767, 2147483647, 9223372036854775807, 'Infinity', 99999999.99, 99900, -0.00999, 'Infinity', '-Infinity', '92233720368547758.07', true, B'111111111', B'1', '7', '{}'),
	(0, 0, 0, '-Infinity', 0, 0, 0, '-0', '-0', 0, NULL, B'101010101', repeat('10', 5000)::bit varying, DEFAULT, NULL),
	(1, 1, 1, 1e-16383, 'NaN', 'NaN', 'NaN', '1.17549435e-38', '2.2250738585072014e-308', '0.01', true, NULL, NULL, NULL, '{NULL;3}'),
	(-1, -1, -1, ('9' || repeat('0', 4000) || '.' || repeat('1', 4000))::numeric, 0.01, 100, 0.00001, '3.4028235e38', '1.7976931348623157e308', NULL, false, NULL, NULL, NULL, NULL),
	(2, 2, 2, 1e131071, 1, 1, 0.00001, '1.4e-45', '5e-324', NULL, NULL, NULL, NULL, NULL, NULL),
	(3, 3, 3, 1.10, 1.1, NULL, NULL, 0.1, 0.1, NULL, NULL, NULL, NULL, NULL, NULL),
	(4, 4, 4, 0.000, NULL, NULL, NULL, 0.30000001, 0.30000000000000004, NULL, NULL, NULL, NULL, NULL, NULL),
	(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE times (
	d date, t time, t0 time(0), tz timetz, ts timestamp, ts3 timestamp(3), tstz timestamptz, i interval, im interval year to month, i2 interval second(2));
INSERT INTO times VALUES
	('4713-01-01 BC', '00:00', '00:00', '00:00+15:59', '4713-01-01 00:00 BC', '0001-01-01 BC', '4713-01-01 00:00+00 BC', '-178000000 years', '-178956970 years -8 mons', '-1.25 s'),
	('5874897-12-31', '24:00', '24:00', '24:00-15:59', '294276-12-31 23:59:59.999999', '9999-12-31 23:59:59.999', '294276-12-31 23:59:59.999999+00', '178000000 years 3 mons 5 days 04:05:06.789012', '1 year', '59.99 s'),
	('infinity', '23:59:59.999999', '12:00:01', '12:00+05:30', 'infinity', '-infinity', 'infinity', '1 mon -1 day 00:00:00.000001', '0', '0'),
	('-infinity', NULL, NULL, NULL, '-infinity', 'infinity', '-infinity', '-00:00:00.000001', NULL, NULL),
	('2024-02-29', '02:30', '02:30', '02:30+00', '1969-12-31 23:59:59.5', '2000-01-01', '2026-10-25 02:30+02', '1 day', NULL, NULL),
	(NULL, NULL, NULL, NULL, NULL, NULL, '2026-10-25 02:30+01', NULL, NULL, NULL);

CREATE TABLE words (
	id integer PRIMARY KEY, c char(5), vc varchar(10), t text, one "char", n name, by bytea, u uuid, x xml, j json, jb jsonb, jp jsonpath,
	tsv tsvector, tsq tsquery, cur refcursor);
INSERT INTO words VALUES
	(1, '', '', '', '', '', '', '00000000-0000-0000-0000-000000000000', '', '0', '0', '$', '', '', ''),
	(2, 'a  ', '0123456789', '\N', '\', repeat('n', 63), '\x00', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '<a b="c">&amp;<![CDATA[ ]]></a>', ' { "a" : 1, "a":2 } ', '{"a": [1, null, "\u00e9\n"]}', 'strict $.a[*] ? (@ > 1)', 'a:1A b:2,3B ''it''''s'':4', 'a & !b | (c <-> d:*)', 'c'),
	(3, ' x', E'\t', E'\\.', E'\n', E'a\nb', '\x5c4e0a', gen_random_uuid(), '<?xml version="1.0"?><r/>', '"\u0000"', '"\\"', '$', NULL, NULL, NULL),
	(4, 'äöüßé', '表示😀', E'\\.\n\\.\n', NULL, 'ï', '\xff', NULL, '<é/>', '[]', '{}', NULL, '''表示'':1', NULL, NULL),
	(5, NULL, NULL, E'\b\f\n\r\t\v\x01\x02\x1b\x7f', NULL, NULL, (SELECT string_agg(set_byte('\x00', 0, b), '' ORDER BY b) FROM generate_series(0, 255) b), NULL, NULL, E'[1,\n\t2]', '1e400', NULL, NULL, NULL, NULL),
	(6, NULL, NULL, E'line\r\nline\rline\n', NULL, NULL, '\x0d0a', NULL, NULL, '1E5', '1E5', NULL, NULL, NULL, NULL),
	(7, NULL, NULL, E' \\\\ \\t \\x41 \\N ', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(8, NULL, NULL, repeat('long ', 50000), NULL, NULL, (SELECT string_agg(sha256(i::text::bytea), '') FROM generate_series(1, 4000) i), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(9, NULL, NULL, U&'\FEFFBOM, \0301combining, \202Eright to left, \+10FFFF', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(10, NULL, NULL, 'NULL', NULL, NULL, NULL, NULL, NULL, 'null', 'null', NULL, NULL, NULL, NULL);

CREATE TABLE shapes (
	p point, l line, s lseg, b box, open_path path, closed_path path, po polygon, c circle, net cidr, host inet, mac macaddr, mac8 macaddr8);
INSERT INTO shapes VALUES
	('(0,-0)', '{1,-1,0}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1))', '((0,0),(1,1),(1,0))', '<(0,0),0>', '0.0.0.0/0', '255.255.255.255', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00'),
	('(1e308,-1e308)', '{0,1,2.5}', NULL, NULL, NULL, NULL, NULL, '<(0.1,0.30000000000000004),1e300>', '::/0', '::1/64', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff'),
	('(NaN,Infinity)', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '10.1.2.0/24', '::ffff:1.2.3.4', NULL, NULL);

CREATE TABLE internals (
	o oid, x xid, x8 xid8, c cid, ti tid, lsn pg_lsn, snap pg_snapshot, old_snap txid_snapshot, ov oidvector, iv int2vector, acl aclitem[],
	rc regclass, rp regproc, rpr regprocedure, rt regtype, rr regrole, rn regnamespace, ro regoper, ror regoperator, rcf regconfig, rd regdictionary, rcl regcollation);
INSERT INTO internals VALUES
	(0, '0', '0', '0', '(0,0)', '0/0', '1:1:', '1:1:', '', '', '{}', 'pg_class', 'now', 'lower(text)', 'int4[]', 'cairn_owner', 'pg_catalog', '||/', '+(integer,integer)', 'english', 'simple', '"C"'),
	(4294967295, '4294967295', '18446744073709551615', '4294967295', '(4294967295,65535)', 'FFFFFFFF/FFFFFFFF', '10:20:10,14,15', '10:20:10,14,15', '1 2 3', '-1 0 1', '{cairn_owner=r*w/cairn_owner,=r/cairn_owner}', 'kinds.words', NULL, NULL, 'kinds.mood', '"cairn ""Quoted"" röle"', 'kinds', NULL, NULL, NULL, NULL, NULL),
	(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '-', '-', '-', '-', '-', '-', '0', '0', '-', '-', '-');

CREATE TABLE arrays (
	i integer[], i2 integer[][], t text[], b bytea[], d date[], m mood[], p pair[], r int4range[], bo box[], j jsonb[]);
INSERT INTO arrays VALUES
	('{}', '{{1,2},{3,4}}', '{"",NULL,"NULL","a,b","{}","\"","\\","\\N"," x "}', '{"\\x","\\x5c"}', '{infinity}', '{sad,"so, so",""}', '{"(1,\"a,b\")","(,)"}', '{empty,"[1,5)"}', '{(1,1),(0,0);(2,2),(1,1)}', '{"{\"a\": \"\\n\"}",NULL}'),
	('[-2:0]={1,2,3}', '[0:1][5:6]={{1,NULL},{3,4}}', E'{"new\nline","tab\t"}', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(NULL, '{}', '{NULL}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');

CREATE TABLE ranges (
	i4 int4range, i8 int8range, n numrange, ts tsrange, tstz tstzrange, d daterange, f floats, t texts,
	mi4 int4multirange, mn nummultirange, mts tsmultirange, md datemultirange, mf many_floats, EXCLUDE USING gist (i4 WITH &&));
INSERT INTO ranges VALUES
	('empty', 'empty', '[1.5,2.5]', '[2026-01-01,infinity)', '(,)', '[2026-01-01,2026-01-01]', '(-Infinity,NaN]', '["a,b","c""d)")', '{}', '{[1,2),(5,)}', '{}', '{[2026-01-01,2026-02-01),[2026-03-01,)}', '{(1,2),[3,4]}'),
	('[1,10)', '(,9223372036854775807)', '(,)', NULL, NULL, '(,infinity]', NULL, '["",)', '{(,0),[1,2),[4,)}', NULL, NULL, NULL, NULL),
	(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE made (m mood, e empty_enum, p pair, n nested, z no_fields, s positive, sp small_positive, ps pairs, c code, w words);
INSERT INTO made VALUES
	('it''s "ok"', NULL, '(1,"a ""b"", c\\")', '("(2,)","{""(3,x)""}",sad)', '()', 1, 99, '{"(1,x)"}', 'ABC', NULL),
	('', NULL, '(,)', NULL, NULL, 2147483647, 1, NULL, NULL, (SELECT words FROM words WHERE id = 4));

COMMENT ON TYPE mood IS 'how it goes';
COMMENT ON TYPE shell IS 'not yet';
COMMENT ON COLUMN pair."right One" IS 'the other';
COMMENT ON DOMAIN positive IS 'more than none';
COMMENT ON CONSTRAINT "is positive" ON DOMAIN positive IS 'said by a comment';
ALTER TYPE pair OWNER TO cairn_owner;
GRANT USAGE ON TYPE mood TO cairn_reader WITH GRANT OPTION;
REVOKE ALL ON TYPE number FROM PUBLIC;
GRANT USAGE ON DOMAIN code TO "cairn ""Quoted"" röle";
