package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/isolation/audit"
	"github.com/landlord-go/landlord/placement"
)

// clockTooFarOff is when a clock counts as wrong: by more than that, times in logs, leases and grace periods mislead people.
const clockTooFarOff = 5 * time.Second

// release checks the server's version against what is known of PostgreSQL's releases.
func (d *doctor) release(c placement.Cluster, version string, number int) {
	if number < oldestServer {
		d.find("cluster "+c.Name, "upgrade the server to PostgreSQL 15 or newer", "the server has version %s", version)
		return
	}
	known, release := audit.Vulnerabilities(number)
	if len(known) == 0 {
		return
	}
	var faults []string
	for _, v := range known {
		faults = append(faults, v.CVE+" ("+v.Risk+")")
	}
	d.warn("cluster "+c.Name, fmt.Sprintf("upgrade the server to PostgreSQL %s or newer of the same major version: install it and restart", release),
		"the server has version %s, which has %s", version, strings.Join(faults, ", "))
}

// direct checks that the operator reaches the server itself.
func (d *doctor) direct(ctx context.Context, conn *pgx.Conn, c placement.Cluster) error {
	var pid uint32
	if err := conn.QueryRow(ctx, `select pg_backend_pid()`).Scan(&pid); err != nil {
		return err
	}
	if pid != conn.PgConn().PID() {
		d.find("cluster "+c.Name, "let 'operator' name the server itself, not the pooler in front of it",
			"'operator' leads through a pooler: moves need replication connections and locks of a session")
	}
	return nil
}

// clock compares conn's server with this machine, and returns by how much it is ahead.
func (d *doctor) clock(ctx context.Context, conn *pgx.Conn, where string) (ahead time.Duration, err error) {
	best := time.Duration(math.MaxInt64) // the quickest answer says most
	for range 3 {
		var theirs time.Time
		asked := time.Now()
		if err := conn.QueryRow(ctx, `select clock_timestamp()`).Scan(&theirs); err != nil {
			return 0, err
		}
		took := time.Since(asked)
		if took < best {
			best, ahead = took, theirs.Sub(asked.Add(took/2))
		}
	}
	if off := ahead.Abs() - best/2; off > clockTooFarOff {
		direction := "ahead of"
		if ahead < 0 {
			direction = "behind"
		}
		d.warn(where, "let NTP (chrony, systemd-timesyncd) set the clocks of all machines, this one included",
			"its clock is %s %s this machine's", ahead.Abs().Round(time.Second), direction)
	}
	return ahead, nil
}

// catalogClock compares the control database with this machine. That it cannot be reached has been said.
func (d *doctor) catalogClock(ctx context.Context) {
	dsn, err := d.h.config.Catalog.Resolve()
	if err != nil {
		return
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // prepares nothing, for there may be a pooler
	err = with(ctx, cfg, func(conn *pgx.Conn) error {
		ahead, err := d.clock(ctx, conn, "catalog")
		d.out.Catalog.ClockAhead = seconds(ahead)
		return err
	})
	if err != nil {
		d.find("catalog", "see why it cannot be used", "%v", err)
	}
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// roles compares the roles of each server with what init makes, and tells on which clusters all is well.
func (d *doctor) roles(ctx context.Context, clusters []placement.Cluster, reached map[string]bool, databases []placement.Database) (well map[string]bool) {
	well = map[string]bool{}
	for _, c := range clusters {
		var mode isolation.Mode
		var logins []string
		for _, db := range databases {
			switch {
			case db.Cluster != c.Name:
			case db.Name == c.SharedDatabase:
				mode = isolation.Mode(db.Mode)
			case !slices.Contains(logins, db.Login):
				logins = append(logins, db.Login)
			}
		}
		if !reached[c.Name] || mode == "" { // no shared database: said already
			continue
		}
		err := asOperator(ctx, c, "", func(conn *pgx.Conn) error {
			faults, err := isolation.CheckRoles(ctx, conn, mode, logins)
			well[c.Name] = err == nil && len(faults) == 0
			for _, f := range faults {
				fix := "landlord init"
				if f.SQL != "" {
					fix = f.SQL + "; then: landlord init"
				}
				d.find("cluster "+c.Name, fix, "role %s %s", f.Role, f.Problem)
			}
			return err
		})
		if err != nil {
			d.find("cluster "+c.Name, "see why the operator cannot look at its roles", "%v", err)
		}
	}
	return well
}
