package lint

// tracedRules are about what statements were seen to do on a copy, whatever they say.
var tracedRules = []Rule{
	{
		Name: "traced-rewrite", Severity: Error,
		Risk: "Run on a copy, the statement wrote all of {table} anew: nobody can read it meanwhile.",
		Safe: "alter table {table} add column c_new bigint;\n-- keep both by a trigger, fill the old rows with phase=backfill, then with phase=contract\nalter table {table} drop column c;",
	}, {
		Name: "traced-scan", Severity: Error,
		Risk: "Run on a copy, the statement read {table} from end to end while it kept writers from it, or wrote to it: both last as long as the table is large.",
		Safe: "-- a constraint: not valid, and in the next file\nalter table {table} validate constraint t_c;\n-- an index: alone in its file, NO TRANSACTION, concurrently\n-- a write: phase=backfill, or by a key that has an index",
	}, {
		Name: "traced-lock", Severity: Warning,
		Risk: "Run on a copy, the file locked {table} against everybody while it still had {ref} locked so: everybody waits for both, and two who lock in another order lock each other out.",
		Safe: "-- file 1: what is to be done to {ref}\n-- file 2: this statement",
	}, {
		Name: "traced-elsewhere", Severity: Error,
		Risk: "Run on a copy, the statement made or changed {object}, which is not in the home: the second home finds it done already, or fails.",
		Safe: "-- leave the name unqualified: the search path leads to the home's own schema\n-- what is there once in a database: -- landlord: scope=database",
	},
}
