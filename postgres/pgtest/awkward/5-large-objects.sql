-- Large objects: none of a byte, one, three million, holes, and numbers at the ends.
SELECT lo_create(1);
SELECT lo_from_bytea(20001, '\x00');
SELECT lo_from_bytea(20002, (SELECT string_agg(sha256(i::text::bytea), '') FROM generate_series(1, 98304) i));
SELECT lo_from_bytea(20003, 'a hole follows'), lo_put(20003, 1000000, 'and an end');
SELECT lo_from_bytea(4294967295, E'\\\\.\n\\\\N\t'::bytea);
COMMENT ON LARGE OBJECT 20001 IS 'of one ''byte''';
ALTER LARGE OBJECT 20002 OWNER TO cairn_owner;
GRANT SELECT ON LARGE OBJECT 20002 TO cairn_reader, PUBLIC;
GRANT UPDATE ON LARGE OBJECT 1 TO "cairn ""Quoted"" röle";
