package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// NewDatabase makes an empty database with a random name and returns a superuser's DSN for it. It is dropped, with
// whatever is still connected to it, when the test ends.
func NewDatabase(t testing.TB) string {
	t.Helper()
	return create(t, Server(t), "template0")
}

// Clone makes a database that starts as a copy of what build made. build runs once for each key on a server, in an
// empty database; so key must change when what build does changes: put a hash of the migrations in it. On a server
// that LANDLORD_TEST_DSN names, templates (landlord_tpl_...) stay for the next run.
func Clone(t testing.TB, key string, build func(ctx context.Context, conn *pgx.Conn) error) string {
	t.Helper()
	info := Server(t)
	sum := sha256.Sum256([]byte(key))
	template := "landlord_tpl_" + hex.EncodeToString(sum[:10])
	lockKey := int64(binary.BigEndian.Uint64(sum[:8]))

	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := ensureTemplate(ctx, info, template, lockKey, build); err != nil {
		t.Fatalf("pgtest: build the template database for %q: %v", key, err)
	}
	return create(t, info, template)
}

// ensureTemplate builds the template unless somebody has. Other test binaries may want it at the same time, so it is
// done under an advisory lock; and one may have died over it, so a template counts once datistemplate says so.
func ensureTemplate(ctx context.Context, info Info, name string, lockKey int64, build func(context.Context, *pgx.Conn) error) error {
	admin, err := pgx.Connect(ctx, info.DSN)
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx)) // which also gives up the lock

	built := func() (ok bool, err error) {
		err = admin.QueryRow(ctx, `select exists (select from pg_database where datname = $1 and datistemplate)`, name).Scan(&ok)
		return ok, err
	}
	if ok, err := built(); ok || err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, `select pg_advisory_lock($1)`, lockKey); err != nil {
		return err
	}
	if ok, err := built(); ok || err != nil {
		return err
	}
	if err := dropDatabase(ctx, admin, name); err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, "create database "+quote(name)+" template template0"); err != nil {
		return err
	}
	if err := buildIn(ctx, info, name, build); err != nil {
		return errors.Join(err, dropDatabase(context.WithoutCancel(ctx), admin, name))
	}
	_, err = admin.Exec(ctx, "alter database "+quote(name)+" with is_template true allow_connections false")
	return err
}

func buildIn(ctx context.Context, info Info, name string, build func(context.Context, *pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, WithDatabase(info.DSN, name))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return build(ctx, conn)
}

func create(t testing.TB, info Info, template string) string {
	t.Helper()
	name := "landlord_test_" + random()
	err := administer(t.Context(), info, func(ctx context.Context, admin *pgx.Conn) error {
		return retry(ctx, func() error {
			_, err := admin.Exec(ctx, "create database "+quote(name)+" template "+quote(template))
			return err
		})
	})
	if err != nil {
		t.Fatalf("pgtest: create a database: %v", err)
	}
	t.Cleanup(func() {
		err := administer(context.WithoutCancel(t.Context()), info, func(ctx context.Context, admin *pgx.Conn) error {
			return dropDatabase(ctx, admin, name)
		})
		if err != nil {
			t.Errorf("pgtest: drop the test's database: %v", err)
		}
	})
	return WithDatabase(info.DSN, name)
}

// dropDatabase drops a database in use. Its replication connections go first: "with (force)" leaves them alone, and
// an active logical slot then forbids the drop.
func dropDatabase(ctx context.Context, admin *pgx.Conn, name string) error {
	return retry(ctx, func() error {
		const q = `select pg_terminate_backend(active_pid) from pg_replication_slots where database = $1 and active`
		if _, err := admin.Exec(ctx, q, name); err != nil {
			return err
		}
		_, err := admin.Exec(ctx, "drop database if exists "+quote(name)+" with (force)")
		return err
	})
}

func administer(ctx context.Context, info Info, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var admin *pgx.Conn
	err := retry(ctx, func() (err error) {
		admin, err = pgx.Connect(ctx, info.DSN)
		return err
	})
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	return do(ctx, admin)
}

// retry repeats what fails only because others are busy: with the same database, or with all the connections.
func retry(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !pgerr.Is(err, pgerr.ObjectInUse, pgerr.TooManyConnections) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (given up: %w)", err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
