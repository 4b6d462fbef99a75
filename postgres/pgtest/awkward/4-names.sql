-- Names that are hard to write, to parse and to keep as names of files.
CREATE SCHEMA "Names ""q"" of/schemas.%41";
SET search_path = "Names ""q"" of/schemas.%41";
SELECT format('CREATE TABLE %1$I (%1$I integer, n integer); COMMENT ON TABLE %1$I IS %1$L; INSERT INTO %1$I VALUES (%2$s, NULL)', name, i)
FROM unnest(ARRAY['quo"te', '"quoted"', 'sp ace', ' lead', 'trail ', ' ', 'do.t', '.', '..', '.hidden', 'sl/ash', '/', 'per%cent', '%2F', 'tab' || chr(9), 'new' || chr(10) || 'line',
	'return' || chr(13), 'back\slash', '\.', '\N', 'it''s', '-rf', '$dollar', 'Upper', 'upper', 'select', 'Ünïcødé', '表', '😀', 'e' || chr(769), 'é', chr(1), '*', '?', '[a]', ':', ';', '--', '{}',
	repeat('x', 63), repeat('ü', 31), 'a,b', 'a=b', 'CON', 'toc', 'manifest', 'globals', '1', '0000000001', '&', '<', '#']) WITH ORDINALITY u (name, i) \gexec

-- The dot between schema and table can't be told from one in a name.
CREATE SCHEMA x;
CREATE SCHEMA "x.y";
CREATE SCHEMA "x""";
CREATE TABLE x."y.z" (a integer);
CREATE TABLE "x.y".z (a integer);
CREATE TABLE "x""".y (a integer);
INSERT INTO x."y.z" VALUES (1);
INSERT INTO "x.y".z VALUES (2);
INSERT INTO "x""".y VALUES (3);
CREATE SCHEMA blobs;
CREATE TABLE blobs."0000000001" (a integer);
CREATE TABLE public.toc (a integer);
CREATE TABLE public.manifest (a integer);
