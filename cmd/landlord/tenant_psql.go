package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

func newTenantPsqlCmd(a *app) *cobra.Command {
	var id string
	var commands []string
	cmd := &cobra.Command{
		Use:   "psql SLUG",
		Short: "Open psql inside a tenant's scope",
		Long: `Open psql as the application's login, inside one transaction that has entered the tenant: it sees what the
application sees for this tenant, and nothing else.

With -c or with standard input from a file the transaction is committed at the end, if all went well. At the
prompt it is yours: 'commit' keeps what was done, leaving without it does not; after either the session
belongs to no tenant any more.`,
		Example: `  landlord tenant psql acme -c 'select count(*) from orders'
  landlord tenant psql acme < repair.sql`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := parseWhose(args, id)
			if err != nil {
				return err
			}
			return a.tenantPsql(cmd.Context(), w, commands)
		},
	}
	idFlag(cmd, &id)
	cmd.Flags().StringArrayVarP(&commands, "command", "c", nil, "`sql` to run instead of reading standard input; may be repeated")
	return cmd
}

func (a *app) tenantPsql(ctx context.Context, w whose, commands []string) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	t, err := h.tenant(ctx, w)
	if err != nil {
		return err
	}
	route, err := h.catalog.Route(ctx, t.ID)
	if err != nil {
		return err
	}
	if route.Database.Login == "" {
		return fmt.Errorf("open psql for tenant %s: it is still %s: 'landlord tenant add %[1]s --model %s' goes on with it", t.Slug, t.State, t.Model)
	}
	ring, err := readKeys(h.config.Keys)
	if err != nil {
		return err
	}
	to, err := loginTarget(route.Cluster, route.Database.Login, route.Home.Database)
	if err != nil {
		return err
	}
	enter, err := knock(ctx, to.cfg, route, ring)
	switch {
	case pgerr.Is(err, pgerr.Suspended) && t.State == placement.StateRemoving && t.RemovalDue:
		return fmt.Errorf("open psql for tenant %s: its grace period is over, and 'landlord tenant remove --due' destroys its home: %w", t.Slug, err)
	case err != nil:
		return fmt.Errorf("open psql for tenant %s: %w", t.Slug, refusal(err, route))
	}
	h.Close() // psql may stay for hours
	return a.psqlInside(to, route, enter, commands)
}

// knock enters the tenant once, so that whoever is refused learns why, and returns what makes the SQL that enters it again
// from the server process pid.
func knock(ctx context.Context, cfg *pgx.ConnConfig, route placement.Route, ring isolation.Keyring) (enter func(pid uint32) string, err error) {
	cfg = cfg.Copy()
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // prepares nothing, for there may be a pooler
	err = with(ctx, cfg, func(conn *pgx.Conn) error {
		id, err := isolation.ReadIdentity(ctx, conn)
		if err != nil {
			return err
		}
		asked := time.Now()
		if err := (isolation.Identity{Cluster: route.Cluster.Name, Stamp: route.Database.Stamp}).Check(id); err != nil {
			return err
		}
		sealer, err := isolation.NewSealer(id.Mode, ring, id.Stamp)
		if err != nil {
			return err
		}
		entry := isolation.Entry{Tenant: route.Tenant.String(), Home: route.Home.String(), Epoch: route.Epoch}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		if err := enterHome(ctx, conn, sealer, entry, id.Clock); err != nil {
			return err
		}
		enter = func(pid uint32) string { return enterSQL(sealer.Params(entry, pid, id.Clock.Add(time.Since(asked)))) }
		return tx.Rollback(ctx)
	})
	return enter, err
}

// enterHome enters a tenant on conn.
func enterHome(ctx context.Context, conn *pgx.Conn, sealer *isolation.Sealer, entry isolation.Entry, now time.Time) error {
	return conn.PgConn().ExecParams(ctx, isolation.EnterSQL, sealer.Params(entry, 0, now), nil, nil, nil).Read().Err
}

// enterSQL is isolation.EnterSQL with its parameters in place.
func enterSQL(p [][]byte) string {
	kid, exp, mac := "null", "null", "null"
	if p[5] != nil {
		kid, exp, mac = string(p[3]), string(p[4]), fmt.Sprintf("decode('%s', 'hex')", p[5][len(`\x`):])
	}
	return fmt.Sprintf("select landlord.enter(%s, %s, %s, %s, %s, %s)", sqlText(string(p[0])), sqlText(string(p[1])), p[2], kid, exp, mac)
}

// refusal says in words what the home says in SQLSTATEs, and what to do.
func refusal(err error, route placement.Route) error {
	switch {
	case pgerr.Is(err, pgerr.Suspended):
		return fmt.Errorf("the tenant is suspended: 'landlord tenant resume %s' opens its home again: %w", route.Slug, err)
	case pgerr.Is(err, pgerr.Fenced, pgerr.LockNotAvailable):
		return fmt.Errorf("the tenant is being moved: try again in a moment: %w", err)
	case pgerr.Is(err, pgerr.NotHere):
		return fmt.Errorf("its home %s does not say that it lives there: try again, or see 'landlord doctor': %w", route.Home, err)
	case pgerr.Is(err, pgerr.BadSeal):
		return fmt.Errorf("its home does not know the newest seal key: run 'landlord init': %w", err)
	}
	return err
}

// psqlInside runs psql in a transaction that has entered. Other sessions of the application's login can read its statements
// while they run, so the token in them is good for psql's own server process alone: psql tells which that is through one
// pipe, and gets what opens the tenant through another. The token stands in no argument and in no file.
func (a *app) psqlInside(to psqlTarget, route placement.Route, enter func(pid uint32) string, commands []string) error {
	script, scriptEnd, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open psql: %w", err)
	}
	answer, answerEnd, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open psql: %w", errors.Join(err, script.Close(), scriptEnd.Close()))
	}
	defer answer.Close()
	defer scriptEnd.Close() // if psql does not start
	talk := func() {
		defer scriptEnd.Close()
		// Behind a pooler the transaction is what keeps the server process.
		_, _ = io.WriteString(scriptEnd, "\\set QUIET on\nbegin;\n"+
			"select pg_catalog.pg_backend_pid() \\g (format=unaligned tuples_only=on) /dev/fd/4\n")
		var pid uint32
		if _, err := fmt.Fscanln(answer, &pid); err != nil {
			return // psql could not connect, and says so
		}
		_, _ = fmt.Fprintf(scriptEnd, `%s \g /dev/null
set local search_path = %s, extensions, pg_temp;
\set PROMPT1 '%s%%R%%x%%# '
\set PROMPT2 '%[3]s%%R%%x%%# '
\set ON_ERROR_ROLLBACK interactive
\set QUIET off
`, enter(pid), pgx.Identifier{route.Home.Schema}.Sanitize(), route.Slug)
	}
	const piped = "/dev/fd/3"
	if len(commands) == 0 && a.atTerminal() {
		a.progress("tenant %s, one transaction: 'commit' keeps what you do, leaving without it does not", route.Slug)
		return a.runPsql(to, []string{"PSQLRC=" + piped}, nil, talk, script, answerEnd)
	}
	args := []string{"--no-psqlrc", "--file=" + piped}
	for _, c := range commands {
		args = append(args, "--command="+c)
	}
	if len(commands) == 0 {
		args = append(args, "--file=-")
	}
	return a.runPsql(to, nil, append(args, `--command=\set QUIET on`, "--command=commit"), talk, script, answerEnd)
}

// atTerminal tells whether somebody types.
func (a *app) atTerminal() bool {
	file, ok := a.stdin.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}
