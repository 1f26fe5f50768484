package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// demoAttempt is one way to reach another tenant's rows, and the same thing done at home.
type demoAttempt struct {
	Model   string `json:"model"`
	What    string `json:"attempt"`
	AtHome  string `json:"at_home"`
	Across  string `json:"across"`
	Crossed bool   `json:"crossed"`
}

// demoCrossing is what the attempts of one model are made with: two tenants of it, and the application's login.
type demoCrossing struct {
	r          *router.Router
	cluster    placement.Cluster
	home, next placement.Placement
	login      string // the application's, in home's database
}

// proof makes every attempt. The secret is a customer that only next has.
func (c demoCrossing) proof(ctx context.Context) ([]demoAttempt, error) {
	home, next := c.r.Tenant(c.home.Tenant), c.r.Tenant(c.next.Tenant)
	for email, db := range map[string]*router.DB{"mine@example.com": home, "secret@example.com": next} {
		if err := (demoShop{db}).order(ctx, email); err != nil {
			return nil, err
		}
	}
	const find = "select count(*) from customers where email = $1"
	var attempts []demoAttempt
	add := func(what string, atHome, across demoOutcome) {
		attempts = append(attempts, demoAttempt{
			Model: string(c.home.Model), What: what, AtHome: atHome.text, Across: across.text, Crossed: across.worked || !atHome.worked,
		})
	}
	add("find a customer by e-mail",
		count(home.QueryRow(ctx, find, "mine@example.com")), count(home.QueryRow(ctx, find, "secret@example.com")))

	const write = "insert into customers (tenant_id, email, name) values ($1, $2, 'x') on conflict do nothing"
	add("write a row with a tenant_id",
		wrote(home.Exec(ctx, write, c.home.Tenant.String(), "written@example.com")),
		wrote(home.Exec(ctx, write, c.next.Tenant.String(), "written@example.com")))

	if c.home.Model != placement.ModelDatabase {
		qualified := "select count(*) from " + pgx.Identifier{c.next.Home.Schema, "customers"}.Sanitize() + " where email = $1"
		add("name the other schema", count(next.QueryRow(ctx, qualified, "secret@example.com")),
			count(home.QueryRow(ctx, qualified, "secret@example.com")))
	}
	raw, err := c.withoutRouter(ctx)
	if err != nil {
		return nil, err
	}
	atHome := count(home.QueryRow(ctx, find, "mine@example.com"))
	for _, a := range raw {
		add(a.what, atHome, a.outcome)
	}
	return attempts, nil
}

// rawAttempt is SQL that goes round the router with the application's own login.
type rawAttempt struct {
	what    string
	outcome demoOutcome
}

func (c demoCrossing) withoutRouter(ctx context.Context) ([]rawAttempt, error) {
	if c.home.Model == placement.ModelDatabase {
		cfg, err := c.cluster.LoginConfig(c.login, c.next.Home.Database)
		if err != nil {
			return nil, err
		}
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			_ = conn.Close(ctx)
		}
		return []rawAttempt{{"connect to the other database", outcome(err, "connected")}}, nil
	}
	cfg, err := c.cluster.LoginConfig(c.login, c.home.Home.Database)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) // nothing of this connection is kept
	table := pgx.Identifier{c.next.Home.Schema, "customers"}.Sanitize()
	all := make([]rawAttempt, 0, 3)
	for _, a := range []struct{ what, sql string }{
		{"the application's login without a tenant", "select count(*) from " + table},
		{"enter with a forged seal", fmt.Sprintf(
			`begin; select landlord.enter('%s', '%s', %d, 1, extract(epoch from now())::bigint + 5, '\x00'); select count(*) from %s`,
			c.next.Tenant, c.next.Home, c.next.Epoch, table)},
		{"write the register itself", fmt.Sprintf(
			`begin; set local backtrace_functions = 't_%x'; select count(*) from %s`, c.next.Tenant.String(), table)},
	} {
		_, err := conn.PgConn().Exec(ctx, a.sql).ReadAll()
		all = append(all, rawAttempt{a.what, outcome(err, "rows")})
		if _, err := conn.PgConn().Exec(ctx, "rollback").ReadAll(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// demoOutcome is how an attempt ended.
type demoOutcome struct {
	text   string
	worked bool
}

func count(row pgx.Row) demoOutcome {
	var n int
	if err := row.Scan(&n); err != nil {
		return outcome(err, "")
	}
	return demoOutcome{text: fmt.Sprintf("%d rows", n), worked: n > 0}
}

func wrote(tag pgconn.CommandTag, err error) demoOutcome {
	return outcome(err, fmt.Sprintf("%d rows written", tag.RowsAffected()))
}

func outcome(err error, worked string) demoOutcome {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return demoOutcome{text: worked, worked: true}
	case errors.As(err, &pg):
		return demoOutcome{text: pgerr.Code(err) + " " + pg.Message}
	}
	return demoOutcome{text: err.Error()}
}
