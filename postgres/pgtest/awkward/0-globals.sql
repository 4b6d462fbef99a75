-- Roles, which all databases of a server have in common: made once.
DO $do$
BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'cairn_owner') THEN
		RETURN;
	END IF;
	CREATE ROLE cairn_owner NOLOGIN;
	CREATE ROLE cairn_reader LOGIN CONNECTION LIMIT 7 PASSWORD 'reader''s \ secret' VALID UNTIL '2037-12-31 23:59:59+00';
	CREATE ROLE cairn_other LOGIN NOINHERIT;
	CREATE ROLE "cairn ""Quoted"" röle" CREATEDB;
	GRANT cairn_reader TO cairn_other WITH ADMIN OPTION;
	GRANT "cairn ""Quoted"" röle" TO cairn_owner;
	ALTER ROLE cairn_reader SET work_mem = '5MB';
	COMMENT ON ROLE cairn_owner IS E'owns what is awkward\nand is commented in two lines';
END
$do$;
