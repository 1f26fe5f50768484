package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pairs"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// The ways that are timed, in the order in which they are shown.
const (
	wayRoundTrip   = "empty query"
	wayDirect      = "empty query, without the delay"
	wayRaw         = "statement: pgx"
	wayRouter      = "statement: landlord"
	wayFourCalls   = "statement: four calls"
	wayRawThree    = "transaction of 3: pgx"
	wayRouterThree = "transaction of 3: landlord"
)

// benchRounds says how ways take turns: often enough that a disturbance meets them all, and several times in a row, as a
// service would find its connections.
func benchRounds(length time.Duration) pairs.Config {
	return pairs.Config{For: length, Rounds: 5, WarmUp: 5, Block: 10}
}

// benchSubject is one tenant's home and what is run there: by the router, and by somebody who has none.
type benchSubject struct {
	route    placement.Route
	router   router.Config
	sql      string
	args     []any
	rawSQL   string
	rawArgs  []any
	readOnly bool
	pooled   bool // the endpoint leads to a pooler, which somebody without a router goes past
}

// time times every way over a network.
func (s *benchSubject) time(ctx context.Context, n *benchNet, length time.Duration) (section benchSection, err error) {
	section = benchSection{
		Mode: s.route.Database.Mode, Model: string(s.route.Model), Tenant: string(s.route.Slug), Network: n.name,
		AskedUS: microseconds(n.added),
	}
	if s.pooled {
		section.Network += ", landlord through a pooler, pgx without it"
	}
	cfg := s.router
	cfg.Dial = n.dial
	r, err := router.New(cfg)
	if err != nil {
		return section, err
	}
	defer r.Close()
	direct, err := s.rawConfig(nil)
	if err != nil {
		return section, err
	}
	through, err := s.rawConfig(n)
	if err != nil {
		return section, err
	}
	err = with(ctx, through, func(conn *pgx.Conn) error {
		section.PostgreSQL = conn.PgConn().ParameterStatus("server_version")
		ways := append([]pairs.Way{{Name: wayRoundTrip, Do: conn.Ping}}, s.ways(conn, r.Tenant(s.route.Tenant))...)
		if n.added == 0 {
			section.Ways, err = timeWays(ctx, length, ways)
			return err
		}
		return with(ctx, direct, func(near *pgx.Conn) error {
			if err := n.calibrate(ctx, near, conn); err != nil {
				return err
			}
			ways = append([]pairs.Way{{Name: wayDirect, Do: near.Ping}}, ways...)
			section.Ways, err = timeWays(ctx, length, ways)
			if err == nil {
				section.AchievedUS = section.Ways[1].MedianUS - section.Ways[0].MedianUS
			}
			return err
		})
	})
	return section, err
}

// ways are the ways to run the statement, and three of it: on conn, and through db.
func (s *benchSubject) ways(conn *pgx.Conn, db *router.DB) []pairs.Way {
	opts, rawOpts := router.TxOptions{ReadOnly: s.readOnly}, pgx.TxOptions{}
	if s.readOnly {
		rawOpts.AccessMode = pgx.ReadOnly
	}
	raw := func(ctx context.Context) error { return drain(conn.Query(ctx, s.rawSQL, s.rawArgs...)) }
	return []pairs.Way{
		{Name: wayRaw, Do: raw},
		{Name: wayRouter, Against: wayRaw, Do: func(ctx context.Context) error { return drain(db.Query(ctx, s.sql, s.args...)) }},
		{Name: wayFourCalls, Against: wayRouter, Do: func(ctx context.Context) error {
			return pgx.BeginTxFunc(ctx, conn, rawOpts, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "select set_config('app.tenant', $1, true)", s.route.Tenant.String()); err != nil {
					return err
				}
				return drain(tx.Query(ctx, s.rawSQL, s.rawArgs...))
			})
		}},
		{Name: wayRawThree, Do: func(ctx context.Context) error {
			return pgx.BeginTxFunc(ctx, conn, rawOpts, func(tx pgx.Tx) error {
				return thrice(func() error { return drain(tx.Query(ctx, s.rawSQL, s.rawArgs...)) })
			})
		}},
		{Name: wayRouterThree, Against: wayRawThree, Do: func(ctx context.Context) error {
			return db.TxWith(ctx, opts, func(ctx context.Context, tx *router.Tx) error {
				return thrice(func() error { return drain(tx.Query(ctx, s.sql, s.args...)) })
			})
		}},
	}
}

// rawConfig is how somebody without a router reaches the home: by the same way, as the operator. Past a pooler of the user's,
// which may not know the operator, it is the operator's own way.
func (s *benchSubject) rawConfig(n *benchNet) (*pgx.ConnConfig, error) {
	cfg, err := s.route.Cluster.OperatorConfig(s.route.Home.Database)
	if err != nil {
		return nil, err
	}
	if !s.pooled {
		operator := cfg
		if cfg, err = s.route.Cluster.LoginConfig(s.route.Database.Login, s.route.Home.Database); err != nil {
			return nil, err
		}
		cfg.User, cfg.Password = operator.User, operator.Password
	}
	cfg.DialFunc = n.dial
	if n != nil && n.pooler != nil {
		// It takes no settings of a session, and before version 1.21 it loses prepared statements.
		cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
		return cfg, nil
	}
	if s.route.Home.Schema != isolation.SharedSchema {
		cfg.RuntimeParams["search_path"] = pgx.Identifier{s.route.Home.Schema}.Sanitize() + ", extensions"
	}
	if s.readOnly {
		cfg.RuntimeParams["default_transaction_read_only"] = "on"
	}
	return cfg, nil
}

// findPooler finds out, as a router does, whether the endpoint leads to a pooler.
func (s *benchSubject) findPooler(ctx context.Context) error {
	cfg, err := s.route.Cluster.LoginConfig(s.route.Database.Login, s.route.Home.Database)
	if err != nil {
		return err
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	return with(ctx, cfg, func(conn *pgx.Conn) error {
		id, err := isolation.ReadIdentity(ctx, conn)
		s.pooled = err == nil && isolation.Pooled(conn, id)
		return err
	})
}

func timeWays(ctx context.Context, length time.Duration, ways []pairs.Way) ([]benchWay, error) {
	results, err := pairs.Run(ctx, benchRounds(length), ways...)
	if err != nil {
		return nil, err
	}
	all := make([]benchWay, len(results))
	for i, r := range results {
		all[i] = benchWay{
			Name: r.Name, Count: r.Count, MedianUS: microseconds(r.Median), P99US: microseconds(r.P99),
			Against: r.Against, Ratio: r.Ratio, RatioP5: r.Low, RatioP95: r.High,
		}
	}
	return all, nil
}

func thrice(fn func() error) error {
	for range 3 {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}

// drain reads a query's rows to the end.
func drain(rows pgx.Rows, err error) error {
	if err != nil {
		return err
	}
	n := 0
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n == 0 {
		return errNoRows
	}
	return nil
}

// errNoRows keeps a bench from timing, on one side, a search that finds nothing.
var errNoRows = errors.New("the statement returns no row: give it arguments by which it finds one")

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
