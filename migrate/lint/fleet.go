package lint

import (
	"slices"
	"strings"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// What exists once on a server and once in a database, by the words behind CREATE, ALTER and DROP.
var (
	ofServers   = [][]string{{"role"}, {"user"}, {"group"}, {"database"}, {"tablespace"}, {"system"}}
	ofDatabases = [][]string{
		{"extension"},
		{"publication"},
		{"subscription"},
		{"event", "trigger"},
		{"cast"},
		{"language"},
		{"large", "object"},
		{"foreign", "data", "wrapper"},
		{"server"},
		{"user", "mapping"},
		{"access", "method"},
		{"transform"},
	}
)

// scope judges statements that reach beyond a home, and reports whether this is one.
func (l *linter) scope(s *statement) bool {
	c := s.cursor()
	verb := c.word()
	switch verb {
	case "create", "alter", "drop":
		c.accept(verb)
		c.accept("or", "replace")
		c.skip("trusted", "procedural")
	case "grant", "revoke":
		switch {
		case has(c.rest, "on", "large", "object"):
			c.rest = []sqltext.Token{word("large"), word("object")}
		case !has(c.rest, "on"): // of a role to a role
			c.rest = []sqltext.Token{word("role")}
		}
	default:
		return false
	}
	at := func(words []string) bool { return c.at(words...) }
	switch {
	case slices.ContainsFunc(ofDatabases, at):
		if l.file.Scope != migrate.ScopeDatabase {
			l.report(s, "database-wide", "{statement}", s.source(s.tokens))
		}
		return true
	case slices.ContainsFunc(ofServers, at):
		if l.file.Scope != migrate.ScopeServer {
			l.report(s, "cluster-wide", "{statement}", s.source(s.tokens))
		}
		return true
	}
	return false
}

// Catalogs in which every schema of the database has rows, and what keeps a look-up to the home's.
var (
	catalogs = []string{
		"pg_tables", "pg_class", "pg_indexes", "pg_index", "pg_views", "pg_matviews", "pg_sequences", "pg_constraint", "pg_attribute",
		"pg_trigger", "pg_policy", "pg_policies", "pg_type", "pg_enum", "pg_proc", "pg_rules", "pg_rewrite", "pg_depend",
		"pg_inherits", "pg_stat_user_tables", "pg_stat_all_tables", "pg_stat_user_indexes", "information_schema",
	}
	binders = []string{
		"current_schema", "current_schemas", "regclass", "regtype", "regproc", "regprocedure", "to_regclass", "to_regtype", "to_regproc",
		"to_regprocedure", "pg_table_is_visible", "pg_type_is_visible", "pg_function_is_visible", "pg_my_temp_schema",
	}
)

// lookups judges what a statement or the body of a block reads from the catalogs.
func (l *linter) lookups(s *statement, tokens []sqltext.Token) {
	if hasAny(tokens, binders...) {
		return
	}
	for i := range tokens {
		c := &cursor{rest: tokens[i:]}
		if !c.accept("from") && !c.accept("join") {
			continue
		}
		c.accept("pg_catalog")
		c.symbol(".")
		if hasAny(c.rest[:min(1, len(c.rest))], catalogs...) {
			l.report(s, "unbound-catalog-lookup", "{catalog}", joined(c.rest[:1]))
			return
		}
	}
}

// block judges the body of a DO block as a whole.
func (l *linter) block(s *statement) {
	for _, t := range s.tokens {
		if t.Kind != sqltext.Literal {
			continue
		}
		body, err := sqltext.Tokenize(t.Text)
		if err != nil {
			continue
		}
		l.lookups(s, body)
		if hasAny(body, "execute") && hasAny(body, clocks...) {
			l.report(s, "names-from-clock")
		}
	}
}

// clocks are what gives another answer in every home.
var clocks = []string{
	"now", "current_date", "current_timestamp", "localtimestamp", "clock_timestamp", "statement_timestamp",
	"transaction_timestamp", "random", "gen_random_uuid", "uuid_generate_v4", "uuidv7", "timeofday",
}

// setting judges SET and RESET.
func (l *linter) setting(s *statement, c *cursor) {
	c.skip("set", "reset")
	local := c.accept("local")
	c.accept("session")
	if c.at("constraints") {
		return
	}
	l.settingOf(s, c.name(), local)
}

func (l *linter) settingOf(s *statement, name string, local bool) {
	switch name = strings.ToLower(name); {
	case name == "lock_timeout", name == "statement_timeout", name == "idle_in_transaction_session_timeout":
		l.report(s, "sets-lock-timeout", "{timeout}", name)
	case !local:
		l.report(s, "session-setting", "{setting}", name)
	}
}

// call judges set_config(name, value, local), wherever it is called.
func (l *linter) call(s *statement) {
	for i := range s.tokens {
		c := &cursor{rest: s.tokens[i:]}
		if !c.accept("set_config") || len(c.rest) < 2 || c.rest[1].Kind != sqltext.Literal {
			continue
		}
		inner, _ := c.parens()
		if args := splitAll(inner, ","); len(args) == 3 {
			l.settingOf(s, joined(args[0]), joined(args[2]) == "true")
		}
	}
}

// grant judges what is granted where no policy looks.
func (l *linter) grant(s *statement, c *cursor) {
	privileges := c.until("on")
	c.accept("on")
	c.accept("table")
	columns := slices.ContainsFunc(privileges, func(t sqltext.Token) bool { return t.Text == "(" })
	for _, name := range c.names() {
		if columns || l.copies[name] {
			l.report(s, "grant-past-policies", "{object}", name)
			return
		}
	}
}

// comment notes the class that a table is given.
func (l *linter) comment(c *cursor) {
	if !c.accept("comment", "on", "table") {
		return
	}
	t := l.of(c.name())
	if c.accept("is") && len(c.rest) > 0 {
		if class, ok := strings.CutPrefix(c.rest[0].Text, "landlord:"); ok {
			t.class = strings.TrimSpace(class)
		}
	}
}

// tenancy judges whether what the file adds to a table with tenants begins with the tenant.
func (l *linter) tenancy(table string, t *table) {
	if !t.owned() {
		return
	}
	for _, name := range sortedKeys(t.indexes) {
		i := t.indexes[name]
		if i.file == l.file.Name && len(i.columns) > 0 && i.columns[0] != "tenant_id" {
			l.report(i.s, "key-without-tenant", "{table}", table, "{name}", name, "{columns}", strings.Join(i.columns, ", "))
		}
	}
	for _, k := range t.keys {
		to := l.tables[k.to]
		if k.file == l.file.Name && to != nil && to.owned() && !slices.Contains(k.columns, "tenant_id") {
			l.report(k.s, "key-without-tenant", "{table}", table, "{name}", k.name, "{columns}", strings.Join(k.columns, ", "))
		}
	}
}
