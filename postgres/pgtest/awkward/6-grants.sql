-- Who may do what, also with what will be made later. The last file, as it would
-- change what those before it make.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA made TO cairn_reader;
REVOKE ALL ON FUNCTION made.plain(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION made.plain(integer) TO cairn_reader WITH GRANT OPTION;
GRANT EXECUTE ON PROCEDURE made.do_it TO "cairn ""Quoted"" röle";
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO cairn_owner;
GRANT USAGE ON FOREIGN SERVER "far away" TO cairn_reader;
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT SELECT (id), UPDATE (price) ON made.seen TO cairn_reader;
GRANT SELECT ON pg_catalog.pg_authid TO cairn_reader; -- to what the system made
GRANT SELECT (a) ON "x.y".z TO cairn_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA "Names ""q"" of/schemas.%41" TO cairn_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE cairn_owner GRANT SELECT ON TABLES TO cairn_reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE cairn_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE cairn_owner IN SCHEMA kept GRANT USAGE ON SEQUENCES TO "cairn ""Quoted"" röle";
ALTER DEFAULT PRIVILEGES FOR ROLE cairn_owner GRANT USAGE ON SCHEMAS TO cairn_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE cairn_owner REVOKE USAGE ON TYPES FROM PUBLIC;
-- Of the database itself.
COMMENT ON DATABASE :"DBNAME" IS E'the awkward\none';
ALTER DATABASE :"DBNAME" SET work_mem = '7MB';
ALTER DATABASE :"DBNAME" SET "search_path" = "$user", public, "Names ""q"" of/schemas.%41";
ALTER DATABASE :"DBNAME" SET datestyle = 'German, DMY';
ALTER DATABASE :"DBNAME" SET intervalstyle = 'sql_standard';
ALTER DATABASE :"DBNAME" SET extra_float_digits = 0;
ALTER DATABASE :"DBNAME" SET bytea_output = 'escape';
ALTER DATABASE :"DBNAME" SET timezone = 'Asia/Kathmandu';
ALTER ROLE cairn_reader IN DATABASE :"DBNAME" SET work_mem = '9MB';
REVOKE CONNECT ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO cairn_reader, cairn_other;
