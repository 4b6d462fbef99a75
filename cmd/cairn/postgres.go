package main

import (
	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/capture"
	"github.com/cairn-backup/cairn/postgres/connect"
)

// postgresFlags are those of snapshot for databases. Patterns are those of pg_dump.
func postgresFlags() []cli.Flag {
	const category = "PostgreSQL"
	return []cli.Flag{
		&cli.StringSliceFlag{Category: category, Name: "pg-schema", Usage: "take only what is in schemas that fit `PATTERN` (as of psql's \\d)"},
		&cli.StringSliceFlag{Category: category, Name: "pg-exclude-schema", Usage: "leave out schemas that fit `PATTERN`"},
		&cli.StringSliceFlag{Category: category, Name: "pg-table", Usage: "take only tables that fit `PATTERN`"},
		&cli.StringSliceFlag{Category: category, Name: "pg-exclude-table", Usage: "leave out tables that fit `PATTERN`"},
		&cli.StringSliceFlag{Category: category, Name: "pg-exclude-table-data", Usage: "take of tables that fit `PATTERN` the definition, but not the rows"},
		&cli.BoolFlag{Category: category, Name: "pg-no-globals", Usage: "leave out roles and tablespaces"},
		&cli.IntFlag{Category: category, Name: "parallel", Value: capture.DefaultParallel, Usage: "read `N` tables at once, over as many connections"},
		&cli.DurationFlag{Category: category, Name: "pg-lock-wait", Value: capture.DefaultLockWait, Usage: "wait up to `TIME` for whoever is changing a table"},
		pgBinFlag(),
	}
}

func pgBinFlag() cli.Flag {
	return &cli.StringFlag{Category: "PostgreSQL", Name: "pg-bin", Usage: "use pg_dump and the other programs in `DIR`", DefaultText: "the oldest that can read the server"}
}

// postgresSources adds the databases that a URL means.
func (p *program) postgresSources(c *cli.Context, url string, opts *ingest.Options) error {
	if n := c.Int("parallel"); n < 1 || n > 64 {
		return usagef("--parallel %d: want 1 to 64", n)
	}
	target, err := connect.Parse(url)
	if err != nil {
		return usagef("%v", err)
	}
	names, err := target.List(c.Context)
	if err != nil {
		return err
	}
	for _, name := range names {
		opts.Sources = append(opts.Sources, capture.New(target, name, capture.Options{
			Scope: postgres.Scope{
				Schemas: c.StringSlice("pg-schema"), ExcludedSchemas: c.StringSlice("pg-exclude-schema"),
				Tables: c.StringSlice("pg-table"), ExcludedTables: c.StringSlice("pg-exclude-table"),
				ExcludedContents: c.StringSlice("pg-exclude-table-data"),
			},
			Globals:  !c.Bool("pg-no-globals"),
			Parallel: c.Int("parallel"),
			LockWait: c.Duration("pg-lock-wait"),
			Bin:      c.String("pg-bin"),
		}))
	}
	return nil
}
