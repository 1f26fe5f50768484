package integration_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/router"
)

// scale chooses between what a test does each time and what LANDLORD_SCALE=full asks for.
func scale(each, full int) int {
	if os.Getenv("LANDLORD_SCALE") == "full" {
		return full
	}
	return each
}

// seedOf is where a test's chance begins: LANDLORD_SEED repeats a run.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 32
	if said := os.Getenv("LANDLORD_SEED"); said != "" {
		var err error
		seed, err = strconv.ParseUint(said, 10, 64)
		require.NoError(t, err, "LANDLORD_SEED")
	}
	t.Logf("LANDLORD_SEED=%d", seed)
	return seed
}

// program is what a tenant does, one step after the other.
type program []step

// step is one statement, or several: a batch, a copy, a transaction, or what is under a savepoint.
type step struct {
	kind    kind
	sql     string
	args    []any
	ordered bool // its rows have an order
	opts    router.TxOptions
	steps   program // of a batch, a transaction or a savepoint
	rows    [][]any // of a copy
	stops   bool    // a transaction or savepoint ends with the first error that it meets, instead of passing over it
	undone  bool    // it is given up at its end
}

type kind string

const (
	statement   kind = "statement"
	batch       kind = "batch"
	copying     kind = "copy"
	transaction kind = "transaction"
	savepoint   kind = "savepoint"
)

func (s step) String() string {
	switch s.kind {
	case statement:
		return fmt.Sprintf("%s %v", strings.Join(strings.Fields(s.sql), " "), s.args)
	case copying:
		return fmt.Sprintf("copy accounts %v", s.rows)
	}
	text := fmt.Sprintf("%s %+v stops=%v undone=%v", s.kind, s.opts, s.stops, s.undone)
	for _, inner := range s.steps {
		text += "\n    " + strings.ReplaceAll(inner.String(), "\n", "\n    ")
	}
	return text
}

// author writes programs by chance. All tenants' programs use the same few keys and names, so that whatever tenants shared
// would meet.
type author struct {
	*rand.Rand
	tenant string   // whose programs they are
	others []string // tenants at whom hostile statements aim
	// hostile programs have statements that try to reach others and to leave something behind. What they are answered depends on
	// landlord, so there is nothing to compare it with in a database without.
	hostile bool
	bulky   bool // many rows at once, so that plans change
}

func newAuthor(seed, stream uint64, tenant string) *author {
	return &author{Rand: rand.New(rand.NewPCG(seed, stream)), tenant: tenant} //nolint:gosec // repeatable
}

func (a *author) program(steps int) (p program) {
	for range steps {
		switch n := a.IntN(10); {
		case n < 5:
			p = append(p, a.statement())
		case n < 6:
			p = append(p, a.batch())
		case n < 7:
			p = append(p, a.copy())
		default:
			tx := step{kind: transaction, steps: a.body(0), stops: a.IntN(3) == 0, undone: a.IntN(4) == 0}
			tx.opts.ReadOnly = a.IntN(8) == 0
			tx.opts.Isolation = []pgx.TxIsoLevel{"", "", pgx.ReadCommitted, pgx.RepeatableRead}[a.IntN(4)]
			p = append(p, tx)
		}
	}
	return p
}

// body is what stands in a transaction, or under a savepoint.
func (a *author) body(depth int) (p program) {
	for range 1 + a.IntN(5) {
		switch n := a.IntN(10); {
		case n < 6:
			p = append(p, a.statement())
		case n < 7:
			p = append(p, a.batch())
		case n < 8:
			p = append(p, a.cursor()...)
		case depth < 3:
			p = append(p, step{kind: savepoint, steps: a.body(depth + 1), stops: a.IntN(3) == 0, undone: a.IntN(3) == 0})
		}
	}
	return p
}

func (a *author) batch() step {
	s := step{kind: batch}
	for range 1 + a.IntN(4) {
		s.steps = append(s.steps, a.statement())
	}
	return s
}

func (a *author) copy() step {
	s := step{kind: copying}
	for range 1 + a.IntN(3) {
		s.rows = append(s.rows, []any{a.key(), a.name(), a.kind()})
	}
	return s
}

func (a *author) cursor() program {
	p := program{{kind: statement, sql: "declare c cursor for select id, name, balance from accounts order by id"}}
	for range 1 + a.IntN(3) {
		p = append(p, step{kind: statement, ordered: true, sql: []string{"fetch 2 from c", "fetch all from c", "move 1 in c", "close c"}[a.IntN(4)]})
	}
	return p
}

func (a *author) key() int     { return 1 + a.IntN(6) }
func (a *author) name() string { return "n" + strconv.Itoa(1+a.IntN(6)) }
func (a *author) kind() string {
	return []string{"cash", "cash", "debt", "stock", "nothing"}[a.IntN(5)]
}
func (a *author) tag() string { return []string{"red", "green", "blue"}[a.IntN(3)] }
func (a *author) sum() int    { return a.IntN(30) - 8 }

// statement is one that a program may run anywhere.
func (a *author) statement() step {
	switch {
	case a.hostile && a.IntN(4) == 0:
		return a.attack()
	case a.bulky && a.IntN(20) == 0:
		from := 1000 + 1000*a.IntN(20)
		return step{kind: statement, sql: "insert into accounts (id, name) select n, 'bulk ' || n from generate_series($1::int, $1 + 400) n on conflict do nothing", args: []any{from}}
	}
	s := sentences[a.IntN(len(sentences))](a)
	s.kind = statement
	return s
}

// sentences are the statements that mean the same with and without landlord. What changes several rows at once must fail or
// succeed whatever the order in which they are found.
var sentences = []func(a *author) step{
	func(a *author) step {
		return step{sql: "insert into accounts (id, name, kind, balance) values ($1, $2, $3, $4)", args: []any{a.key(), a.name(), a.kind(), a.sum()}}
	},
	func(a *author) step {
		return step{
			sql:  "insert into accounts (id, name, tags, about) values ($1, $2, array[$3::text], jsonb_build_object('tag', $3::text)) returning id, name, kind, balance, doubled, tags, about",
			args: []any{a.key(), a.name(), a.tag()},
		}
	},
	func(a *author) step {
		return step{
			sql:  "insert into accounts (tenant_id, id, name) values ($1, $2, $3) on conflict (tenant_id, id) do update set name = excluded.name, balance = accounts.balance + 1 returning tenant_id::text, id, name, balance",
			args: []any{a.tenant, a.key(), a.name()},
		}
	},
	func(a *author) step {
		return step{sql: "insert into accounts (id, name) values ($1::int, $2::text), ($1 + 1, $2 || 'x') on conflict do nothing returning id", args: []any{a.key(), a.name()}}
	},
	func(a *author) step {
		return step{sql: "insert into entries (id, account, amount) values ($1, $2, $3) returning id, account, amount", args: []any{a.key() + 6*a.IntN(3), a.key(), a.sum()}}
	},
	func(a *author) step {
		return step{sql: "insert into entries (id, account, amount) values ($1, $2, $3)", args: []any{a.key() + 6*a.IntN(3), a.key(), a.sum()}}
	},
	func(a *author) step {
		return step{sql: "insert into entries (id, account, amount) select 20 + id, id, balance from accounts where id <= $1 on conflict do nothing", args: []any{a.key()}}
	},
	func(a *author) step {
		return step{sql: "insert into holds (id, entry) values ($1, $2)", args: []any{a.key(), a.key()}}
	},
	func(a *author) step {
		return step{sql: "insert into events (id, level) values ($1, $2)", args: []any{a.key(), a.IntN(11)}}
	},
	func(a *author) step {
		return step{sql: "update events set level = $2 where id = $1 and level = $3 returning id, level", args: []any{a.key(), a.IntN(11), a.IntN(10)}}
	},
	func(a *author) step {
		return step{sql: "update accounts set balance = balance + $2 where id = $1 returning id, balance, doubled", args: []any{a.key(), a.sum()}}
	},
	func(a *author) step {
		return step{sql: "update accounts set balance = balance + $1", args: []any{a.sum()}}
	},
	func(a *author) step {
		return step{sql: "update accounts set id = $2 where id = $1", args: []any{a.key(), a.key()}}
	},
	func(a *author) step {
		return step{sql: "update accounts set tags = tags || $2::text, about = about || jsonb_build_object($2, id) where name = $1", args: []any{a.name(), a.tag()}}
	},
	func(a *author) step {
		return step{sql: "update accounts a set balance = a.balance + s.amount from (select account, greatest(sum(amount), 0) as amount from entries group by account) s where s.account = a.id"}
	},
	func(a *author) step {
		return step{sql: "delete from accounts where id = $1 returning id, name", args: []any{a.key()}}
	},
	func(a *author) step {
		return step{sql: "delete from entries e using accounts a where a.id = e.account and a.name = $1 returning e.id, e.amount", args: []any{a.name()}}
	},
	func(a *author) step { return step{sql: "delete from holds where id > $1", args: []any{a.key()}} },
	func(a *author) step {
		return step{
			sql:  "with gone as (delete from entries where account = $1 returning account, amount) update accounts set balance = balance + (select greatest(coalesce(sum(amount), 0), 0) from gone) where id = $1 returning id, balance",
			args: []any{a.key()},
		}
	},
	func(a *author) step {
		return step{
			sql:  "merge into accounts a using (values ($1::int, $2::text)) v (id, name) on a.id = v.id when matched and a.balance > 3 then delete when matched then update set balance = balance + 1 when not matched then insert (id, name) values (v.id, v.name)",
			args: []any{a.key(), a.name()},
		}
	},
	func(a *author) step {
		return step{sql: "select id, name, kind, balance, doubled, tags, about, tenant_id::text from accounts"}
	},
	func(a *author) step {
		return step{ordered: true, sql: "select id, name, sum(balance) over (order by id) from accounts where balance >= $1 order by id desc limit 3", args: []any{a.sum()}}
	},
	func(a *author) step {
		return step{sql: "select count(*), sum(balance), max(name), min(id) from accounts where tags @> array[$1::text] or about ? $1", args: []any{a.tag()}}
	},
	func(a *author) step {
		return step{sql: "select a.name, e.id, e.amount from accounts a full join entries e on e.account = a.id where a.id is distinct from $1", args: []any{a.key()}}
	},
	func(a *author) step { return step{sql: "select id, name, entries, amount from totals"} },
	func(a *author) step {
		return step{sql: "select spent($1), (select count(*) from holds)", args: []any{a.key()}}
	},
	func(a *author) step {
		return step{sql: "select account, was, became, count(*) from changes group by 1, 2, 3"}
	},
	func(a *author) step {
		return step{sql: "select id, level from events where level between $1 and $1 + 4", args: []any{a.IntN(8)}}
	},
	func(a *author) step {
		return step{sql: "select id, balance from accounts where id = $1 for update", args: []any{a.key()}}
	},
	func(a *author) step {
		return step{sql: "select id from entries e where exists (select from accounts a where a.id = e.account and a.kind = $1) for share skip locked", args: []any{a.kind()}}
	},
	func(a *author) step {
		return step{
			sql:  "with recursive r (id, depth) as (select $1::int, 0 union all select a.id, r.depth + 1 from accounts a, r where a.id = r.id + 1 and r.depth < 5) select r.id, r.depth, a.name from r left join accounts a using (id)",
			args: []any{a.key()},
		}
	},
	func(a *author) step {
		return step{sql: "select id from accounts except select account from entries union all select id from holds"}
	},
	func(a *author) step {
		return step{sql: "select a.id, l.id from accounts a, lateral (select id from entries e where e.account = a.id order by amount, id limit 1) l"}
	},
	func(a *author) step { return step{sql: "set constraints all immediate"} },
	func(a *author) step { return step{sql: "select 1 / (balance - balance) from accounts"} },
	func(a *author) step {
		return step{sql: "select name::int from accounts where id = $1", args: []any{a.key()}}
	},
	func(a *author) step { return step{sql: "select nowhere from accounts"} },
	func(a *author) step {
		return step{sql: "insert into accounts (id, name) values ($1, null)", args: []any{a.key()}}
	},
}

// attack is a statement that tries to reach another tenant, or to leave something for the next one on the connection.
func (a *author) attack() step {
	other := a.others[a.IntN(len(a.others))]
	attacks := []step{
		{sql: "select * from accounts where tenant_id = $1", args: []any{other}},
		{sql: "select count(*) from entries where tenant_id <> $1", args: []any{a.tenant}},
		{sql: "insert into accounts (tenant_id, id, name) values ($1, $2, $3)", args: []any{other, a.key(), a.name()}},
		{sql: "insert into accounts (tenant_id, id, name) values ($1, $2, $3) on conflict do nothing", args: []any{other, a.key(), a.name()}},
		{sql: "insert into accounts (tenant_id, id, name) values ($1, $2, $3) on conflict (tenant_id, id) do update set name = 'taken' returning name", args: []any{other, a.key(), a.name()}},
		{sql: "insert into entries (tenant_id, id, account, amount) values ($1, $2, $3, 1)", args: []any{other, a.key(), a.key()}},
		{sql: "update accounts set tenant_id = $1 where id = $2", args: []any{other, a.key()}},
		{sql: "update accounts set balance = 0 where tenant_id = $1", args: []any{other}},
		{sql: "delete from accounts where tenant_id = $1 returning id", args: []any{other}},
		{sql: "merge into accounts a using (values ($1::uuid, $2::int)) v (tenant, id) on a.tenant_id = v.tenant and a.id = v.id when matched then delete when not matched then insert (tenant_id, id, name) values (v.tenant, v.id, 'merged')", args: []any{other, a.key()}},
		{sql: "select count(*) from accounts where 1 / (case when tenant_id = $1 then 0 else 1 end) = 1", args: []any{other}},
		{sql: "truncate accounts"},
		{sql: "lock table accounts"},
		{sql: "commit"},
		{sql: "reset all"},
		{sql: "discard all"},
		{sql: "select 1; select 2"},
		{sql: "set local row_security = off"},
		{sql: "set local timezone = 'Asia/Tokyo'"},
		{sql: "select nothing from nowhere"},
		{sql: "create temp table accounts (id int, name text)"},
		{sql: "select set_config('timezone', 'Asia/Tokyo', false), set_config('datestyle', 'German', false)"},
		{sql: "notify n1"},
		{sql: "declare c cursor with hold for select id from accounts"},
		{sql: "select landlord.enter($1, 'a', 1, null, null, null)", args: []any{other}},
		{sql: "select id into temp taken from accounts"},
		{sql: "select count(*) from pg_prepared_statements where name !~ '^landlord'"},
		{sql: "select count(*) from pg_cursors where is_holdable"},
		{sql: "select setting from pg_settings where name in ('TimeZone', 'row_security', 'DateStyle') order by name", ordered: true},
		{sql: "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and mode = 'ExclusiveLock'"},
		{sql: "select pg_my_temp_schema() <> 0"},
	}
	s := attacks[a.IntN(len(attacks))]
	s.kind = statement
	return s
}
