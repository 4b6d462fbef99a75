-- What *.copy and *.csv in this folder are of, in databases with the encodings UTF8
-- and LATIN1: the rows of each table by COPY ... TO STDOUT and by
-- COPY ... TO STDOUT (FORMAT csv, HEADER).
CREATE TABLE many (n integer, "a,b" text, "q""" text, "é" text, plain text);
INSERT INTO many VALUES (1, NULL, '', '\.', '\N'), (2, 'a"b', 'a,b', E'a\nb', E'a\rb'), (3, E'\t', '\', ' a ', '"'), (4, E'\b\f\x0b', '\t', ',', '"",');
INSERT INTO many SELECT i, chr(i), 'x' || chr(i), chr(i) || 'x', repeat(chr(i), 3) FROM generate_series(1, 255) i;
CREATE TABLE one ("\.
" text);
INSERT INTO one VALUES (NULL), (''), ('\.'), ('.'), ('\\.'), (' \.'), ('\N'), (E'\n'), (E'\\.\n');
CREATE TABLE none ();
INSERT INTO none DEFAULT VALUES;
INSERT INTO none DEFAULT VALUES;
CREATE TABLE empty (a integer, b integer);
