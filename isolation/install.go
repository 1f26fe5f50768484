package isolation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrations"
)

// Version is the version of the home objects that this package installs: the number of the last numbered file in
// migrations/home. A router accepts Version and Version-1, so that homes can be upgraded under running services.
const Version = 5

// Identity says which database this is. It is what a connection is checked against when it opens.
type Identity struct {
	Installation string // uuid
	Cluster      string
	Stamp        string // uuid, new for every database that is made
	AppLogin     string // the login of the application here
	Mode         Mode
	Version      int       // of the home objects
	Clock        time.Time // the server's time when this was read
	PID          uint32    // of the server process that was asked; behind a pooler not the connection's
}

// ErrIdentity reports a database that is not the one expected: a swapped DSN, or a database dropped and re-created.
var ErrIdentity = errors.New("database is not the one expected")

// Pooled tells whether a pooler stands between conn and the server process that answered with id: the process is then not the one that
// conn was told of when it opened.
func Pooled(conn *pgx.Conn, id Identity) bool { return id.PID != conn.PgConn().PID() }

const identitySQL = `
select installation::text, cluster, stamp::text, app_login::text, mode, version, clock_timestamp(), pg_backend_pid(), checksum
  from landlord.identity`

// ReadIdentity reads which database conn is connected to. A database without home objects is ErrIdentity.
func ReadIdentity(ctx context.Context, conn *pgx.Conn) (Identity, error) {
	id, _, err := readIdentity(ctx, conn)
	return id, err
}

func readIdentity(ctx context.Context, db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
},
) (id Identity, checksum string, err error) {
	err = db.QueryRow(ctx, identitySQL).Scan(
		&id.Installation, &id.Cluster, &id.Stamp, &id.AppLogin, &id.Mode, &id.Version, &id.Clock, &id.PID, &checksum)
	if pgerr.Is(err, pgerr.UndefinedTable, pgerr.UndefinedSchema, pgerr.InsufficientPrivilege) || errors.Is(err, pgx.ErrNoRows) {
		return Identity{}, "", fmt.Errorf("read the database's identity: %w: it has no landlord objects for this login", ErrIdentity)
	}
	if err != nil {
		return Identity{}, "", fmt.Errorf("read the database's identity: %w", err)
	}
	return id, checksum, nil
}

// Check tells whether a connection to got may be used where want, of which only Cluster and Stamp count, was expected.
func (want Identity) Check(got Identity) error {
	switch {
	case got.Stamp != want.Stamp || got.Cluster != want.Cluster:
		return fmt.Errorf("%w: stamp %s of cluster %s, want stamp %s of cluster %s: a swapped DSN, or a database that was "+
			"dropped and re-created", ErrIdentity, got.Stamp, got.Cluster, want.Stamp, want.Cluster)
	case got.Version != Version && got.Version != Version-1:
		return fmt.Errorf("home objects have version %d, this program knows %d and %d: run landlord init of the newer release",
			got.Version, Version, Version-1)
	}
	return nil
}

// Install makes or upgrades the home objects of conn's database, makes routines anew that are not what it has installed ([Altered]),
// and sees to it that the keys of ring are known there. It runs in one transaction and returns whether it changed anything. want.Version is ignored. A database that carries another
// identity is ErrIdentity and stays as it is. The roles must exist (EnsureRoles).
func Install(ctx context.Context, conn *pgx.Conn, want Identity, ring Keyring) (changed bool, err error) {
	if err := checkMode(ctx, conn, want.Mode); err != nil {
		return false, err
	}
	files, err := homeFiles(want.Mode)
	if err != nil {
		return false, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		changed, err = install(ctx, tx, want, files)
		if err != nil {
			return err
		}
		added, err := addKeys(ctx, tx, ring, want.Stamp)
		changed = changed || added
		return err
	})
	if err != nil {
		return false, fmt.Errorf("install landlord's objects: %w", err)
	}
	return changed, nil
}

// files is the SQL of one version and mode of the home objects.
type files struct {
	once     []string // numbered files; the n-th makes version n
	always   []string // replaced at every upgrade
	checksum string
}

func homeFiles(mode Mode) (files, error) {
	home := migrations.Home()
	numbered, err := fs.Glob(home, "[0-9]*.sql")
	if err != nil {
		return files{}, fmt.Errorf("list home files: %w", err)
	}
	if len(numbered) != Version {
		return files{}, fmt.Errorf("list home files: there are %d, Version says %d", len(numbered), Version)
	}
	names := []string{"functions.sql", "secure.sql", "steps.sql", "undo.sql", "backfill.sql", "mirror.sql", "demand.sql", "modes/open.sql"}
	for _, f := range modeFiles[mode] {
		names = append(names, "modes/"+f)
	}
	names = append(names, "grants.sql")

	var f files
	sum := sha256.New()
	for i, name := range append(numbered, names...) {
		text, err := fs.ReadFile(home, name)
		if err != nil {
			return files{}, fmt.Errorf("read home file: %w", err)
		}
		sum.Write(text)
		if i < len(numbered) {
			f.once = append(f.once, string(text))
		} else {
			f.always = append(f.always, string(text))
		}
	}
	f.checksum = hex.EncodeToString(sum.Sum(nil))
	return f, nil
}

func install(ctx context.Context, tx pgx.Tx, want Identity, f files) (changed bool, err error) {
	const lock = `select pg_advisory_xact_lock(hashtextextended('landlord install', 0))`
	if _, err := tx.Exec(ctx, lock); err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	// An upgrade that waits for a table which open transactions use holds up all that come after it: rather try again later.
	if _, err := tx.Exec(ctx, `set local lock_timeout = '5s'`); err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	var exists bool
	if err := tx.QueryRow(ctx, `select to_regclass('landlord.identity') is not null`).Scan(&exists); err != nil {
		return false, fmt.Errorf("look for earlier objects: %w", err)
	}
	have := Identity{}
	if exists {
		var checksum string
		have, checksum, err = readIdentity(ctx, tx)
		if err != nil {
			return false, err
		}
		if have.Stamp != want.Stamp || have.Installation != want.Installation || have.Cluster != want.Cluster {
			return false, fmt.Errorf("%w: it belongs to cluster %s of installation %s (stamp %s)",
				ErrIdentity, have.Cluster, have.Installation, have.Stamp)
		}
		if have.Version > Version {
			return false, fmt.Errorf("its objects have version %d, this program knows %d: use a newer release", have.Version, Version)
		}
		if checksum == f.checksum && have.Mode == want.Mode && have.AppLogin == want.AppLogin {
			release, err := ReadRelease(want.Mode)
			if err != nil {
				return false, err
			}
			// Somebody may have replaced what a checksum of the files knows nothing of.
			if names, err := altered(ctx, tx, release); err != nil || len(names) == 0 {
				return false, err
			}
		}
	}
	if err := runAll(ctx, tx, f.once[have.Version:]); err != nil {
		return false, err
	}
	const stamp = `
insert into landlord.identity (installation, cluster, stamp, app_login, mode, version, checksum)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (one) do update set app_login = excluded.app_login, mode = excluded.mode, version = excluded.version,
       checksum = excluded.checksum`
	if _, err := tx.Exec(ctx, stamp, want.Installation, want.Cluster, want.Stamp, want.AppLogin, string(want.Mode), Version,
		f.checksum); err != nil {
		return false, fmt.Errorf("write the identity: %w", err)
	}
	return true, runAll(ctx, tx, f.always)
}

// runAll runs files of several statements each, which only the simple protocol takes.
func runAll(ctx context.Context, tx pgx.Tx, files []string) error {
	for _, text := range files {
		if _, err := tx.Conn().PgConn().Exec(ctx, text).ReadAll(); err != nil {
			head, _, _ := strings.Cut(text, "\n")
			return fmt.Errorf("run home file %q: %w", head, err)
		}
	}
	return nil
}
