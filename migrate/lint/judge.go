package lint

import (
	"maps"
	"slices"
	"strings"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// judge applies the rules that look at one statement.
func (l *linter) judge(s *statement) {
	l.identifiers(s)
	if s.cursor().at("drop", "schema") {
		l.drop(s, &cursor{rest: s.tokens[1:]})
		return
	}
	if l.refuse(s) {
		return
	}
	c := s.cursor()
	l.call(s)
	if !c.at("do") && !c.at("create", "function") && !c.at("create", "or", "replace", "function") {
		l.lookups(s, s.tokens)
	}
	if !c.at("drop", "database") && l.scope(s) {
		return
	}
	switch {
	case c.accept("create"):
		l.create(s, c)
	case c.accept("alter", "table"):
		l.alterTable(s, c)
	case c.accept("alter"):
		l.alterOther(s, c)
	case c.accept("drop"):
		l.drop(s, c)
	case c.accept("truncate"):
		l.truncate(s, c)
	case c.accept("reindex"):
		l.reindex(s, c)
	case c.at("cluster"), c.accept("vacuum") && hasAny(c.rest, "full"):
		l.report(s, "table-rewrite")
	case c.at("insert"), c.at("update"), c.at("delete"), c.at("merge"), c.at("with"):
		l.write(s)
	case c.at("set"), c.at("reset"):
		l.setting(s, c)
	case c.at("comment"):
		l.comment(c)
	case c.accept("grant"):
		l.grant(s, c)
	case c.at("do"):
		l.block(s)
	}
}

// identifiers looks for names that PostgreSQL would cut.
func (l *linter) identifiers(s *statement) {
	const longest = 63
	for _, t := range s.tokens {
		if t.Kind <= sqltext.Quoted && len(t.Text) > longest {
			l.report(s, "identifier-too-long", "{long}", t.Text)
			return
		}
	}
}

func (l *linter) truncate(s *statement, c *cursor) {
	c.skip("table", "only")
	for _, name := range c.names() {
		if !l.fresh(name) {
			s.table, s.exclusive = name, true
			l.report(s, "truncate", "{table}", name)
			return
		}
	}
}

func (l *linter) reindex(s *statement, c *cursor) {
	options, _ := c.parens()
	kind := c.word()
	c.accept(kind)
	concurrently := c.accept("concurrently") || hasAny(options, "concurrently")
	name := c.name()
	table := name
	if kind == "index" {
		table = l.indexes[name]
	}
	s.again = true
	switch {
	case concurrently:
		l.concurrently(s)
	case !l.fresh(table):
		s.table, s.heavy = table, true
		l.reportOn(s, table, "reindex-not-concurrent", "{kind}", kind, "{name}", name)
	}
}

// whole applies the rules that look at all of a file.
func (l *linter) whole() {
	l.locks()
	l.combine()
	l.resume()
	l.environment()
	l.batches()
	for _, name := range sortedKeys(l.tables) {
		t := l.tables[name]
		l.tenancy(name, t)
		if t.fresh && !t.temporary && !t.vague && !t.owned() && t.class == "" && l.file.Scope == migrate.ScopeTenant {
			l.report(t.s, "table-unclassed", "{table}", name)
		}
		for _, k := range t.keys {
			if to := l.tables[k.to]; k.file != l.file.Name || t.temporary || t.findable(k.columns) || to != nil && to.class == "reference" {
				continue
			}
			l.reportOn(k.s, name, "foreign-key-without-index", "{columns}", strings.Join(k.columns, ", "), "{ref}", k.to)
		}
	}
}

// locks looks for statements that keep what an earlier one has locked for themselves longer than it needs.
func (l *linter) locks() {
	said := slices.ContainsFunc(l.found, func(f Finding) bool {
		return f.Rule == "drop-foreign-key" || f.Rule == "validate-in-same-transaction" // which tell more exactly what to part
	})
	if said || !inTransaction(l.file) {
		return
	}
	held := ""
	for _, s := range l.statements {
		if held != "" && (s.heavy || s.table != "" && s.table != held) {
			l.report(s, "after-exclusive-lock", "{table}", held)
			return
		}
		if s.exclusive && s.table != "" {
			held = s.table
		}
	}
}

// combine looks for tables that are altered more often than they need be.
func (l *linter) combine() {
	seen := map[string]bool{}
	for _, s := range l.statements {
		if s.combine && !s.block && inTransaction(l.file) {
			if seen[s.table] {
				l.report(s, "combine-alters", "{table}", s.table)
				return
			}
			seen[s.table] = true
		}
	}
}

// resume looks for a file without a transaction that cannot be run again from its start.
func (l *linter) resume() {
	if inTransaction(l.file) || len(l.statements) < 2 {
		return
	}
	for _, s := range l.statements {
		if !s.again && !s.block && !quick(s) {
			l.report(s, "not-resumable")
			return
		}
	}
}

// environment looks for texts that depend on who runs the file.
func (l *linter) environment() {
	for i, line := range strings.Split(l.file.Text, "\n") {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "--")
		if ok && strings.EqualFold(strings.Join(strings.Fields(comment), " "), "+goose ENVSUB ON") {
			l.add("environment-variables", i+1, "")
			return
		}
	}
}

// batches looks for a backfill that cannot be run in batches.
func (l *linter) batches() {
	refused := slices.ContainsFunc(l.found, func(f Finding) bool { return f.refused }) // which tells more exactly what is wrong
	if l.file.Phase != migrate.PhaseBackfill || refused || l.file.Err != nil {
		return
	}
	if err := l.file.Check(); err != nil {
		line := 0
		if len(l.statements) > 0 {
			line = l.statements[0].line
		}
		l.add("not-batchable", line, "")
		l.found[len(l.found)-1].Risk += ": " + err.Error()
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
