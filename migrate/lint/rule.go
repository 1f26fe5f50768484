package lint

import (
	"slices"
	"strings"
)

// Rule is something that a migration ought not to say.
type Rule struct {
	Name     string // stable; what --rule and allow= take
	Severity Severity
	Refused  bool   // by migrate.Load too: no waiver helps
	Risk     string // what can happen, in one sentence
	Safe     string // the safe form, as SQL where there is one
}

// Rules returns all rules, with the general form of their texts.
func Rules() []Rule {
	all := slices.Clone(rules)
	for i := range all {
		all[i].Risk, all[i].Safe = general.Replace(all[i].Risk), general.Replace(all[i].Safe)
	}
	return all
}

// general is what stands for placeholders that a finding does not fill.
var general = strings.NewReplacer(
	"{table}", "t", "{column}", "c", "{columns}", "c", "{name}", "t_c", "{to}", "d", "{index}", "t_c_key", "{ref}", "p", "{type}", "bigint",
	"{expr}", "c > 0", "{default}", "gen_random_uuid()", "{constraint}", "unique", "{timeout}", "lock_timeout", "{setting}", "work_mem", "{object}", "f", "{enum}", "mood", "{kind}", "table", "{unique}", "", "{view}", "v",
	"{schema}", "s", "{value}", "x", "{long}", "a long name", "{catalog}", "pg_class", "{statement}", "create extension citext", "{rule}", "RULE",
	"{why}", "nothing in the file breaks that rule",
)

var rules = slices.Concat(fileRules, tableRules, indexRules, contractRules, typeRules, fleetRules, tracedRules)

var byName = func() map[string]Rule {
	m := make(map[string]Rule, len(rules))
	for _, r := range rules {
		m[r.Name] = r
	}
	return m
}()

// fileRules are about files as such and about the transaction around their statements.
var fileRules = []Rule{
	{
		Name: "unreadable-file", Severity: Error, Refused: true,
		Risk: "The file cannot be part of a set, and without it the whole set is not run",
		Safe: "-- 00001_customers.sql\n-- +goose Up\ncreate table customers (...);",
	}, {
		Name: "go-migration", Severity: Info,
		Risk: "The linter cannot look into a function, and landlord's own commands cannot run it: only a program that brings it along can.",
		Safe: "-- as SQL, in a file of its own\n-- +goose Up\nalter table t add column c text;\n-- or, in a program of your own: migrate.Load(folder, migrations...)",
	}, {
		Name: "unknown-waiver", Severity: Warning,
		Risk: "The waiver names {rule}, which is no rule, so it waives nothing.",
		Safe: "-- landlord: allow=drop-index-not-concurrent the table has ten rows",
	}, {
		Name: "unused-waiver", Severity: Warning,
		Risk: "The waiver of {rule} waives nothing: {why}.",
		Safe: "-- take the line out",
	}, {
		Name: "transaction-control", Severity: Error, Refused: true,
		Risk: "Beginning or ending a transaction parts the change from the row that says it is applied: an interrupted run leaves neither done nor undone.",
		Safe: "-- take the statement out: a file is one transaction already\n-- for what cannot run in one, a file of its own with\n-- +goose NO TRANSACTION",
	}, {
		Name: "copy-from-client", Severity: Error, Refused: true,
		Risk: "COPY FROM STDIN waits for a client that feeds it, and none does.",
		Safe: "insert into t (c) values (1), (2);",
	}, {
		Name: "not-batchable", Severity: Error, Refused: true,
		Risk: "A backfill is run in batches over the rows of one table, and this one cannot be",
		Safe: "-- landlord: phase=backfill\n-- +goose Up\nupdate t set c = 1 where c is null;\n-- what is no UPDATE or DELETE: without phase=backfill",
	}, {
		Name: "sets-lock-timeout", Severity: Warning,
		Risk: "A file that sets {timeout} undoes the time-outs under which it is run, and all readers queue behind a lock that is waited for.",
		Safe: "-- take the statement out: every file runs under a lock_timeout and a statement_timeout, and is tried again",
	}, {
		Name: "after-exclusive-lock", Severity: Warning,
		Risk: "An earlier statement has locked {table} against everybody, and the lock is held while this one waits and works.",
		Safe: "-- file 1: the statement on {table}, last\n-- file 2: this statement",
	}, {
		Name: "combine-alters", Severity: Info,
		Risk: "{table} is altered more than once, and what reads the whole table reads it each time.",
		Safe: "alter table {table}\n    add column a text,\n    add column b text;",
	}, {
		Name: "not-resumable", Severity: Warning,
		Risk: "A file without a transaction that fails half-way is run again from its start, and this statement cannot be repeated.",
		Safe: "-- one statement in each file marked\n-- +goose NO TRANSACTION\n-- or forms that can be repeated: if not exists, if exists, create or replace",
	},
}

// tableRules are about columns, constraints and rows of tables that exist.
var tableRules = []Rule{
	{
		Name: "add-column-rewrite", Severity: Error,
		Risk: "A column whose value differs from row to row (volatile default, serial, identity, stored, domain with a constraint) writes all of {table} anew while nobody can read it.",
		Safe: "alter table {table} add column {column} {type};\nalter table {table} alter column {column} set default {default};\n-- a stored expression: kept by a trigger\n-- phase=backfill: fill the old rows in batches",
	}, {
		Name: "add-column-check", Severity: Error,
		Risk: "A CHECK with the column reads all of {table} while nobody can use it.",
		Safe: "alter table {table} add column {column} {type};\nalter table {table} add constraint {table}_{column}_check check ({expr}) not valid;\n-- next file\nalter table {table} validate constraint {table}_{column}_check;",
	}, {
		Name: "add-column-references", Severity: Error,
		Risk: "A reference with the column locks {table} and {ref} together against writes while rows are compared.",
		Safe: "alter table {table} add column {column} {type};\n-- file of its own, NO TRANSACTION\ncreate index concurrently {table}_{column} on {table} ({column});\n-- next file\nalter table {table} add constraint {table}_{column}_fkey foreign key ({column}) references {ref} not valid;\n-- next file\nalter table {table} validate constraint {table}_{column}_fkey;",
	}, {
		Name: "add-column-unique", Severity: Error,
		Risk: "A key with the column builds its index while nobody can use {table}.",
		Safe: "alter table {table} add column {column} {type};\n-- file of its own, NO TRANSACTION\ncreate unique index concurrently {table}_{column}_key on {table} ({column});\n-- next file\nalter table {table} add constraint {table}_{column}_key unique using index {table}_{column}_key;",
	}, {
		Name: "add-column-not-null", Severity: Error,
		Risk: "NOT NULL without a default fails in every home that has rows, and the application alive now does not fill the column.",
		Safe: "alter table {table} add column {column} {type};\n-- phase=backfill: fill it; then\nalter table {table} add constraint {table}_{column}_not_null check ({column} is not null) not valid;\n-- next file\nalter table {table} validate constraint {table}_{column}_not_null;\n-- next file\nalter table {table} alter column {column} set not null;",
	}, {
		Name: "change-type-rewrite", Severity: Error,
		Risk: "Unless the values stay as they are, changing the type of {column} writes all of {table} and its indexes anew while nobody can read it.",
		Safe: "alter table {table} add column {column}_new {type};\ncall landlord.mirror_column('{table}', '{column}', '{column}_new');\n-- fill the old rows with phase=backfill, then with phase=contract\ncall landlord.unmirror_column('{table}', '{column}', '{column}_new');\nalter table {table} drop column {column};\n-- next file\nalter table {table} rename column {column}_new to {column};",
	}, {
		Name: "change-type-checked", Severity: Error,
		Risk: "A CHECK on {column} is proved again for all rows while nobody can use {table}.",
		Safe: "alter table {table} drop constraint {table}_{column}_check, alter column {column} type {type};\nalter table {table} add constraint {table}_{column}_check check ({column} > 0) not valid;\n-- next file\nalter table {table} validate constraint {table}_{column}_check;",
	}, {
		Name: "set-not-null", Severity: Error,
		Risk: "NOT NULL reads all of {table} while nobody can use it, unless a valid CHECK proves it already.",
		Safe: "alter table {table} add constraint {table}_{column}_not_null check ({column} is not null) not valid;\n-- next file\nalter table {table} validate constraint {table}_{column}_not_null;\n-- next file\nalter table {table} alter column {column} set not null;\n-- next file\nalter table {table} drop constraint {table}_{column}_not_null;",
	}, {
		Name: "add-check", Severity: Error,
		Risk: "A CHECK reads all of {table} while nobody can use it.",
		Safe: "alter table {table} add constraint {name} check ({expr}) not valid;\n-- next file\nalter table {table} validate constraint {name};",
	}, {
		Name: "validate-in-same-transaction", Severity: Error,
		Risk: "Validating in the transaction that adds the constraint reads all of {table} under the lock of adding it.",
		Safe: "-- file 1: alter table {table} add constraint {name} ... not valid;\n-- file 2:\nalter table {table} validate constraint {name};",
	}, {
		Name: "add-foreign-key", Severity: Error,
		Risk: "A foreign key compares all rows while nobody can write to {table} and {ref}.",
		Safe: "alter table {table} add constraint {name} foreign key ({columns}) references {ref} not valid;\n-- next file\nalter table {table} validate constraint {name};",
	}, {
		Name: "drop-foreign-key", Severity: Warning,
		Risk: "Taking away a foreign key locks the other table too against everybody, and with more in the same transaction two runs can lock each other out.",
		Safe: "-- alone in its file\nalter table {table} drop constraint {name};",
	}, {
		Name: "foreign-key-without-index", Severity: Warning,
		Risk: "Every delete from {ref} and every change of its key reads all of {table}, since no index begins with {columns}.",
		Safe: "create index {table}_of_{ref} on {table} ({columns}); -- in the file that makes the table\n-- or, on a table that exists, in the file before, NO TRANSACTION\ncreate index concurrently {table}_of_{ref} on {table} ({columns});",
	}, {
		Name: "add-unique", Severity: Error,
		Risk: "The index of the key is built while nobody can use {table}.",
		Safe: "-- file of its own, NO TRANSACTION\ncreate unique index concurrently {name} on {table} ({columns});\n-- next file\nalter table {table} add constraint {name} {constraint} using index {name};",
	}, {
		Name: "primary-key-nullable", Severity: Warning,
		Risk: "The columns of a primary key become NOT NULL, and {column} is not known to be: all of {table} is read while nobody can use it.",
		Safe: "alter table {table} add constraint {table}_{column}_not_null check ({column} is not null) not valid;\n-- next file\nalter table {table} validate constraint {table}_{column}_not_null;\n-- next file\nalter table {table} alter column {column} set not null;\n-- next file\nalter table {table} add primary key using index {index};",
	}, {
		Name: "add-exclude", Severity: Error,
		Risk: "An exclusion constraint reads all of {table} and builds its index while nobody can use it, and there is no form that does not.",
		Safe: "-- a new table with the constraint, filled by a trigger on {table} and phase=backfill\ncreate table {table}_new (like {table} including all, exclude using gist (...));\n-- landlord: phase=backfill\nupdate {table} set c = c; -- which fires the trigger",
	}, {
		Name: "attach-without-check", Severity: Warning,
		Risk: "Attaching reads all of {table} to prove that its rows belong there, unless a valid CHECK proves it.",
		Safe: "alter table {table} add constraint {table}_bounds check (at >= '2030-01-01' and at < '2031-01-01') not valid;\n-- next file\nalter table {table} validate constraint {table}_bounds;\n-- next file\nalter table {ref} attach partition {table} for values from ('2030-01-01') to ('2031-01-01');",
	}, {
		Name: "detach-not-concurrent", Severity: Error,
		Risk: "Detaching locks {table} with all its partitions against everybody.",
		Safe: "-- +goose NO TRANSACTION\nalter table {table} detach partition {ref} concurrently;",
	}, {
		Name: "table-rewrite", Severity: Error,
		Risk: "The whole table is written anew while nobody can read it.",
		Safe: "-- not in a migration: move the rows to a new table by a trigger and phase=backfill, or run it by hand in a quiet hour",
	}, {
		Name: "unbounded-write", Severity: Error,
		Risk: "A write over any number of rows of {table} is one long transaction: locks, bloat and lagging replicas.",
		Safe: "-- landlord: phase=backfill\nupdate {table} set c = 1 where c is null;\n-- or bounded, in any phase\nupdate {table} set c = 1 where id in (select id from {table} where c is null limit 1000);",
	}, {
		Name: "truncate", Severity: Error,
		Risk: "TRUNCATE takes all rows of every tenant who lives in {table}, at once.",
		Safe: "-- landlord: phase=contract\ndrop table {table};\n-- or, with phase=backfill\ndelete from {table} where created_at < now() - interval '1 year';",
	},
}

// indexRules are about indexes of tables that exist.
var indexRules = []Rule{
	{
		Name: "index-not-concurrent", Severity: Error,
		Risk: "Nobody can write to {table} while the index is built.",
		Safe: "-- alone in its file\n-- +goose NO TRANSACTION\ncreate{unique} index concurrently {name} on {table} ({columns});",
	}, {
		Name: "concurrently-on-small-table", Severity: Info,
		Risk: "Building concurrently waits for every transaction in the database, and {table} is small enough to be locked for a moment.",
		Safe: "create{unique} index {name} on {table} ({columns});",
	}, {
		Name: "drop-index-not-concurrent", Severity: Error,
		Risk: "Dropping an index locks its table against everybody.",
		Safe: "-- +goose NO TRANSACTION\ndrop index concurrently if exists {name};",
	}, {
		Name: "reindex-not-concurrent", Severity: Error,
		Risk: "Nobody can write to the table, or use the index, while it is rebuilt.",
		Safe: "-- +goose NO TRANSACTION\nreindex {kind} concurrently {name};",
	}, {
		Name: "concurrently-in-transaction", Severity: Error,
		Risk: "PostgreSQL refuses CONCURRENTLY in a transaction, and several statements in one message are one.",
		Safe: "-- alone in its file\n-- +goose NO TRANSACTION\ncreate index concurrently t_c on t (c);",
	}, {
		Name: "concurrent-index-unnamed", Severity: Error, Refused: true,
		Risk: "What an interrupted build leaves could not be found again without a name.",
		Safe: "-- +goose NO TRANSACTION\ncreate{unique} index concurrently {table}_c on {table} ({columns});",
	}, {
		Name: "concurrent-index-if-not-exists", Severity: Warning,
		Risk: "An interrupted build leaves an invalid index, and IF NOT EXISTS takes it for the whole one.",
		Safe: "-- +goose NO TRANSACTION\ncreate{unique} index concurrently {name} on {table} ({columns}); -- what was left is dropped first",
	},
}

// contractRules are about what the application alive now may still use, and what nothing brings back.
var contractRules = []Rule{
	{
		Name: "drop-column", Severity: Error,
		Risk: "The application that is alive until all homes are changed still reads or writes {column}.",
		Safe: "-- landlord: phase=contract\n-- +goose Up\nalter table {table} drop column {column};",
	}, {
		Name: "drop-table", Severity: Error,
		Risk: "The application that is alive until all homes are changed still uses {table}.",
		Safe: "-- landlord: phase=contract\n-- +goose Up\ndrop table {table};",
	}, {
		Name: "drop-not-null", Severity: Error,
		Risk: "The application that is alive until all homes are changed does not expect a null in {column}.",
		Safe: "-- landlord: phase=contract\n-- +goose Up\nalter table {table} alter column {column} drop not null;",
	}, {
		Name: "rename", Severity: Error,
		Risk: "The application that is alive until all homes are changed knows only the old name.",
		Safe: "-- expand: add the new one beside the old, and of columns keep both alike\ncall landlord.mirror_column('t', '{name}', '{to}');\n-- landlord: phase=contract\ncall landlord.unmirror_column('t', '{name}', '{to}');\n-- then the old one goes",
	}, {
		Name: "drop-object", Severity: Error,
		Risk: "The application that is alive until all homes are changed still calls {object}.",
		Safe: "create or replace function {object}(...) ...; -- to change it, as views too\n-- landlord: phase=contract\n-- to drop it",
	}, {
		Name: "drop-schema-or-database", Severity: Error,
		Risk: "A home, or somebody else's data, is gone in one statement, and no migration brings it back.",
		Safe: "-- never in a migration: landlord tenant remove",
	},
}

// typeRules are about types and names, which are hard to change later.
var typeRules = []Rule{
	{
		Name: "enum-value-position", Severity: Warning,
		Risk: "Without a position the order of the values depends on what was added before, and may differ from home to home.",
		Safe: "alter type {enum} add value '{value}' after 'y';",
	}, {
		Name: "enum-value-used", Severity: Error,
		Risk: "PostgreSQL refuses a new value of an enum in the transaction that adds it.",
		Safe: "-- file 1\nalter type {enum} add value '{value}' after 'y';\n-- file 2: what uses it",
	}, {
		Name: "json-column", Severity: Warning,
		Risk: "Values of type json cannot be compared, so DISTINCT, UNION and GROUP BY fail over {column}.",
		Safe: "{column} jsonb",
	}, {
		Name: "domain-constraint", Severity: Warning,
		Risk: "A constraint of a domain is proved over every table that uses it, and adding a column of it writes the table anew.",
		Safe: "alter table t add constraint t_c_check check (c > 0) not valid;\n-- next file\nalter table t validate constraint t_c_check;",
	}, {
		Name: "identifier-too-long", Severity: Warning,
		Risk: "PostgreSQL cuts {long} after 63 bytes, and two names may become the same.",
		Safe: "-- a name of at most 63 bytes",
	}, {
		Name: "small-key", Severity: Warning,
		Risk: "A key of 32 bits or less ends at 2,147,483,647, over all tenants of a shared table together, and changing {column} later writes the table anew.",
		Safe: "{column} bigint generated always as identity",
	}, {
		Name: "timestamp-without-time-zone", Severity: Warning,
		Risk: "A time without a zone means another moment to each session.",
		Safe: "{column} timestamptz",
	}, {
		Name: "char-type", Severity: Warning,
		Risk: "Values of char(n) are padded with blanks that comparisons then leave out.",
		Safe: "{column} text check (length({column}) <= 2)",
	},
}
