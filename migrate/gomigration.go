package migrate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
)

// GoFunc is a migration in Go, in the signature that goose has for it. tx is the transaction of the step, with the search path
// and the limits that a file has; the function neither commits nor rolls back. Any number of homes are migrated at once, and
// a home is tried again after an error, so that it is called concurrently and more than once.
type GoFunc func(ctx context.Context, tx *sql.Tx) error

// GoMigration is a migration that a program brings along. It stands among the files by its version.
type GoMigration struct {
	Version int64
	// Name says what it does, such as "00004_split_names.go". The checksum is of version and name, since the text of a function
	// cannot be had: give what does something else another name, and another version.
	Name  string
	Phase Phase  // empty: expand
	Scope Scope  // empty: tenant
	Up    GoFunc // nil: it does nothing
	Down  GoFunc // nil: it cannot be undone
}

// FromGoose takes over a migration of goose.NewGoMigration. One whose functions ask for a *sql.DB is refused: a connection of
// their own knows nothing of the home, its transaction and its search path.
func FromGoose(name string, m *goose.Migration) (GoMigration, error) {
	name = cmp.Or(name, path.Base(m.Source))
	switch {
	case m.Type != goose.TypeGo:
		return GoMigration{}, fmt.Errorf("%s: it is no migration in Go: leave it in the folder", name)
	case m.UpFnNoTxContext != nil || m.DownFnNoTxContext != nil || m.UpFnNoTx != nil || m.DownFnNoTx != nil:
		return GoMigration{}, fmt.Errorf("%s: its function takes a *sql.DB, which would work outside of the home's transaction and search path: "+
			"give it the *sql.Tx of goose.GoFunc.RunTx; what cannot run in a transaction stands in a file marked NO TRANSACTION", name)
	}
	return GoMigration{Version: m.Version, Name: name, Up: GoFunc(m.UpFnContext), Down: GoFunc(m.DownFnContext)}, nil
}

// file is g as one of the files of a folder.
func (g GoMigration) file() (File, error) {
	f := File{Name: g.Name, Migration: Migration{
		Version: g.Version, File: g.Name, Phase: cmp.Or(g.Phase, PhaseExpand), Scope: cmp.Or(g.Scope, ScopeTenant),
		inGo: true, up: g.Up, down: g.Down,
	}}
	var errs []error
	if g.Version < 1 {
		errs = append(errs, errors.New("its version is not above zero"))
	}
	if strings.TrimSpace(g.Name) == "" || strings.ContainsAny(g.Name, "\n\x00") {
		errs = append(errs, errors.New("it needs a name of one line, which tells it from what it may be tomorrow"))
	}
	if _, err := ParsePhase(string(f.Phase)); err != nil {
		errs = append(errs, err)
	}
	if _, err := ParseScope(string(f.Scope)); err != nil {
		errs = append(errs, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "migration in Go\n%d\n%s\n", g.Version, g.Name))
	f.Checksum = hex.EncodeToString(sum[:])
	if err := errors.Join(errs...); err != nil {
		return f, fmt.Errorf("migration %d in Go: %w", g.Version, err)
	}
	return f, nil
}

// register puts migrations in Go among the files of a folder, each in the place of its source if that lies there.
func register(files []File, inGo []GoMigration) ([]File, error) {
	for _, g := range inGo {
		f, err := g.file()
		if err != nil {
			return nil, err
		}
		source := slices.IndexFunc(files, func(have File) bool { return have.Version == g.Version && errors.Is(have.Err, ErrGo) })
		if source >= 0 {
			files[source] = f
		} else {
			files = append(files, f)
		}
	}
	sortFiles(files)
	return files, nil
}

// runGo calls fn with the transaction that is open on conn. That transaction is whole afterwards, or there is an error; what
// fn kept to itself of a statement that failed comes out here.
func runGo(ctx context.Context, conn *pgx.Conn, fn GoFunc) (err error) {
	if fn == nil {
		return nil
	}
	driver := &txDriver{conn: conn}
	db := sql.OpenDB(driver)
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = call(ctx, tx, fn)
	endErr := tx.Commit()
	switch {
	case err == nil && ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && endErr != nil:
		err = fmt.Errorf("the function has ended the transaction, which is not its own: let it return nil or an error (%w)", endErr)
	}
	if conn.PgConn().TxStatus() != 'T' && driver.failed != nil && !errors.Is(err, driver.failed) {
		err = errors.Join(err, fmt.Errorf("a statement failed: %w", driver.failed))
	}
	return err
}

// call turns a panic of fn into an error: it must not take the other homes with it.
func call(ctx context.Context, tx *sql.Tx, fn GoFunc) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("the function panicked: %w", p)
		default:
			err = fmt.Errorf("the function panicked: %v", p)
		}
	}()
	return fn(ctx, tx)
}
