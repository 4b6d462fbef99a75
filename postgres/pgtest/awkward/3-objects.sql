-- All that is not tables.
CREATE SCHEMA made;
SET search_path = made;

CREATE FUNCTION plain(integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $1 + 1 $$;
CREATE FUNCTION plain(text) RETURNS text LANGUAGE sql AS $_$ SELECT $$a "quoted" $x$ text;$$ || $1 $_$;
CREATE FUNCTION atomic(a integer, b integer DEFAULT 7, VARIADIC rest integer[] DEFAULT '{}') RETURNS TABLE (s integer, "T t" text)
	BEGIN ATOMIC SELECT a + b, 'x'::text; SELECT a, rest::text; END;
CREATE FUNCTION "odd ""name"" /%"(OUT o integer, INOUT io text) LANGUAGE plpgsql SECURITY DEFINER COST 7 SET search_path = pg_catalog, "$user" SET work_mem = '3MB' AS
$body$ -- a comment
BEGIN
	o := 1; io := io || E'\n\\.\n' || $$;$$;
END
$body$;
CREATE FUNCTION many() RETURNS SETOF kept.orders LANGUAGE sql STABLE ROWS 12 LEAKPROOF AS 'SELECT * FROM kept.orders';
CREATE PROCEDURE do_it(INOUT n integer) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; COMMIT; END $$;
CREATE AGGREGATE total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = SAFE, MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = integer);
CREATE AGGREGATE share(float8 ORDER BY float8) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_cont_float8_final);
CREATE FUNCTION differs(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 <> $2';
CREATE OPERATOR <!> (FUNCTION = differs, LEFTARG = integer, RIGHTARG = integer, COMMUTATOR = <!>, RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR @#@ (FUNCTION = plain, RIGHTARG = integer);
CREATE OPERATOR FAMILY fam USING btree;
CREATE OPERATOR CLASS fam_int4 FOR TYPE integer USING btree FAMILY fam AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(integer, integer);
CREATE OPERATOR CLASS lonely FOR TYPE bigint USING hash AS OPERATOR 1 =, FUNCTION 1 hashint8(bigint);
ALTER OPERATOR FAMILY fam USING btree ADD OPERATOR 1 < (integer, bigint), FUNCTION 1 (integer, bigint) btint48cmp(integer, bigint);
CREATE TABLE by_class (a integer);
CREATE INDEX by_class_a ON by_class (a fam_int4);
CREATE CAST (kinds.pair AS text) WITH INOUT AS ASSIGNMENT;
CREATE FUNCTION mood_rank(kinds.mood) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT array_position(enum_range(NULL::kinds.mood), $1) $$;
CREATE CAST (kinds.mood AS integer) WITH FUNCTION mood_rank(kinds.mood) AS IMPLICIT;
CREATE CAST (kinds.number AS integer) WITHOUT FUNCTION;
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION "c Copy" FROM "C";
CREATE TABLE collated (t text COLLATE blind UNIQUE);
INSERT INTO collated VALUES ('Straße'), ('b'), ('Ä');
CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = simple, stopwords = 'english', accept = false);
CREATE TEXT SEARCH CONFIGURATION conf (PARSER = pg_catalog."default");
ALTER TEXT SEARCH CONFIGURATION conf ADD MAPPING FOR asciiword, word WITH dict, english_stem;
CREATE TEXT SEARCH TEMPLATE temp (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH PARSER pars (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE in_heap2 (a integer) USING heap2;
INSERT INTO in_heap2 VALUES (1);
CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));

CREATE VIEW seen AS SELECT id, price FROM kept.orders WHERE id > 10 WITH LOCAL CHECK OPTION;
ALTER VIEW seen ALTER COLUMN price SET DEFAULT 3;
CREATE VIEW barred WITH (security_barrier, security_invoker) AS SELECT "T t" FROM atomic(1);
CREATE VIEW by_key AS SELECT o.id, o.item, o.price FROM kept.orders o GROUP BY o.id; -- needs the primary key
CREATE RECURSIVE VIEW upwards (id, n) AS SELECT id, 1 FROM kept.tree WHERE up IS NULL UNION ALL SELECT t.id, u.n + 1 FROM kept.tree t JOIN upwards u ON t.up = u.id;
CREATE VIEW no_columns AS SELECT;
CREATE MATERIALIZED VIEW kept_sums AS SELECT customer, sum(price) FROM kept.orders GROUP BY customer;
CREATE MATERIALIZED VIEW of_sums TABLESPACE cairn_space AS SELECT count(*) AS n FROM kept_sums;
CREATE MATERIALIZED VIEW unpopulated AS SELECT 1 AS one WITH NO DATA;
CREATE UNIQUE INDEX kept_sums_customer ON kept_sums (customer);
COMMENT ON MATERIALIZED VIEW kept_sums IS 'of each customer';
CREATE RULE add_seen AS ON INSERT TO by_key DO INSTEAD INSERT INTO kept.orders (id, item) VALUES (new.id, new.item);
CREATE RULE quiet AS ON DELETE TO by_class WHERE old.a < 0 DO INSTEAD NOTHING;
CREATE RULE also AS ON UPDATE TO by_class DO ALSO (NOTIFY changed; SELECT 1);
ALTER TABLE by_class DISABLE RULE quiet;
COMMENT ON RULE also ON by_class IS 'as well';

CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF TG_ARGV[0] = 'fails' THEN RAISE 'a trigger fired that should not have'; END IF;
	RETURN coalesce(new, old);
END $$;
CREATE TABLE watched (a integer, b text);
INSERT INTO watched VALUES (1, 'x'), (2, 'y');
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE OF a ON watched FOR EACH ROW WHEN (new.a > 5) EXECUTE FUNCTION fired('it''s', 'an \ argument');
CREATE TRIGGER after_all AFTER UPDATE ON watched REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION fired();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON watched FROM kept.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fired();
CREATE TRIGGER off BEFORE INSERT ON watched FOR EACH STATEMENT EXECUTE FUNCTION fired('fails');
ALTER TABLE watched DISABLE TRIGGER off;
CREATE TRIGGER "on replicas" BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION fired('fails');
ALTER TABLE watched ENABLE REPLICA TRIGGER "on replicas";
CREATE TRIGGER ever AFTER DELETE ON watched FOR EACH ROW EXECUTE FUNCTION fired();
ALTER TABLE watched ENABLE ALWAYS TRIGGER ever;
-- A restore that lets this one fire loses the rows.
CREATE FUNCTION swallowed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER swallows BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION swallowed();
CREATE TRIGGER of_parts AFTER INSERT ON kept.events FOR EACH ROW EXECUTE FUNCTION fired();
ALTER TABLE kept.events_else DISABLE TRIGGER of_parts;
CREATE TRIGGER instead INSTEAD OF DELETE ON seen FOR EACH ROW EXECUTE FUNCTION fired();
COMMENT ON TRIGGER off ON watched IS 'switched off';

CREATE EXTENSION file_fdw;
CREATE EXTENSION postgres_fdw SCHEMA made;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE SERVER "far away" TYPE 'kind' VERSION '1.0' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.invalid', dbname 'it''s', port '5432');
CREATE USER MAPPING FOR cairn_reader SERVER "far away" OPTIONS (user 'u', password 'p''w');
CREATE USER MAPPING FOR PUBLIC SERVER files;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE lines (line text OPTIONS (force_not_null 'true'), n integer NOT NULL DEFAULT 1) SERVER files OPTIONS (filename '/nonexistent/file', format 'csv');
CREATE FOREIGN TABLE remote (id integer OPTIONS (column_name 'ID'), CHECK (id > 0)) SERVER "far away" OPTIONS (schema_name 'x', table_name 'y');
CREATE TABLE mixed (a integer) PARTITION BY LIST (a);
CREATE FOREIGN TABLE mixed_far PARTITION OF mixed FOR VALUES IN (1) SERVER "far away";
CREATE TABLE mixed_near PARTITION OF mixed FOR VALUES IN (2);
INSERT INTO mixed VALUES (2);

CREATE EXTENSION cairn_awkward;
INSERT INTO cairn_awkward.settings VALUES ('mine', E'a\tb', false), ('theirs', NULL, false);
INSERT INTO cairn_awkward.places (name) VALUES ('here'), ('there');
INSERT INTO cairn_awkward.scratch VALUES (1);
CREATE SCHEMA extended;
CREATE EXTENSION citext SCHEMA extended;
CREATE EXTENSION hstore SCHEMA extended;
CREATE EXTENSION ltree SCHEMA extended;
CREATE EXTENSION pg_trgm SCHEMA extended;
CREATE TABLE by_extension (id serial PRIMARY KEY, c extended.citext UNIQUE, h extended.hstore, l extended.ltree);
INSERT INTO by_extension (c, h, l) VALUES ('CaSe', 'a=>1, "b c"=>NULL', 'a.b.c'), (NULL, '', '');
CREATE INDEX by_extension_c ON by_extension USING gin ((c::text) extended.gin_trgm_ops);
GRANT SELECT ON cairn_awkward.scratch TO cairn_reader; -- to what the extension made
REVOKE EXECUTE ON FUNCTION cairn_awkward.two() FROM PUBLIC;
COMMENT ON EXTENSION cairn_awkward IS 'a comment of our own';

CREATE PUBLICATION all_of_it FOR ALL TABLES WITH (publish = 'insert');
CREATE PUBLICATION "some" FOR TABLE kept.orders (id, item) WHERE (id > 5), ONLY kept.parent WITH (publish = 'insert, truncate', publish_via_partition_root = true);
CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA "other parts" WITH (publish = 'insert');
CREATE PUBLICATION of_none;
CREATE SUBSCRIPTION from_afar CONNECTION 'host=db.invalid dbname=x password=hidden' PUBLICATION "some", "P q" WITH (connect = false, slot_name = NONE, binary = true);
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER ended ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION on_ddl();
CREATE EVENT TRIGGER "Dropped" ON sql_drop EXECUTE FUNCTION on_ddl();
ALTER EVENT TRIGGER "Dropped" DISABLE;
CREATE EVENT TRIGGER replicas ON ddl_command_start EXECUTE FUNCTION on_ddl();
ALTER EVENT TRIGGER replicas ENABLE REPLICA;

COMMENT ON FUNCTION plain(integer) IS 'plain';
COMMENT ON PROCEDURE do_it IS 'does it';
COMMENT ON AGGREGATE total(integer) IS 'in all';
COMMENT ON OPERATOR <!> (integer, integer) IS 'not';
COMMENT ON OPERATOR CLASS fam_int4 USING btree IS 'class';
COMMENT ON OPERATOR FAMILY fam USING btree IS 'family';
COMMENT ON CAST (kinds.mood AS integer) IS 'cast';
COMMENT ON COLLATION blind IS 'sees no case';
COMMENT ON CONVERSION conv IS 'conversion';
COMMENT ON TEXT SEARCH CONFIGURATION conf IS 'configuration';
COMMENT ON TEXT SEARCH DICTIONARY dict IS 'dictionary';
COMMENT ON TEXT SEARCH PARSER pars IS 'parser';
COMMENT ON TEXT SEARCH TEMPLATE temp IS 'template';
COMMENT ON ACCESS METHOD heap2 IS 'heap';
COMMENT ON TRANSFORM FOR integer LANGUAGE sql IS 'transform';
COMMENT ON VIEW seen IS 'seen';
COMMENT ON COLUMN seen.id IS 'column of a view';
COMMENT ON FOREIGN TABLE lines IS 'lines';
COMMENT ON SERVER files IS 'files';
COMMENT ON FOREIGN DATA WRAPPER nothing IS 'nothing';
COMMENT ON PUBLICATION "some" IS 'some';
COMMENT ON SUBSCRIPTION from_afar IS 'afar';
COMMENT ON EVENT TRIGGER ended IS 'ended';
COMMENT ON LANGUAGE plpgsql IS 'changed comment';
