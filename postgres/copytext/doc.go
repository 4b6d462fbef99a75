// Package copytext reads the text format of PostgreSQL's COPY as the server writes it:
// a row a line, a tab between columns, \N for NULL, and backslashes before what
// would be taken for one of these.
//
// [Scanner] looks on while rows pass, counts and checks them, and sums them up in a
// hash that does not depend on their order. [CSV] turns them into CSV as COPY
// writes that, [AppendField] decodes one column.
//
// All look at single bytes. That is right as long as no byte of a longer character is ASCII, which
// holds for every encoding that a database can have, as the server itself
// looks for quotes and backslashes in this way. It does not hold for some that
// only clients can have (SJIS, BIG5, GBK, UHC, JOHAB, GB18030, SHIFT_JIS_2004): rows
// must be read with client_encoding set to the encoding of the database.
package copytext
