package migrate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// compiled is what goose did for one version.
type compiled struct {
	version       int64
	statements    []string
	noTransaction bool
}

// compile lets goose run one file of fsys, up or down, against a database that only writes down what
// it is told. Goose's parser cannot be imported, and a second one would differ from it some day.
func compile(ctx context.Context, fsys fs.FS, name string, up bool) (_ compiled, err error) {
	rec := &recorder{applied: !up}
	db := sql.OpenDB(rec)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectCustom, db, only{fsys, name},
		goose.WithStore(rec), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return compiled{}, err
	}
	for _, source := range provider.ListSources() {
		if _, err := provider.ApplyVersion(ctx, source.Version, up); err != nil {
			return compiled{}, err
		}
	}
	if len(rec.done) != 1 {
		return compiled{}, fmt.Errorf("goose ran %d files in its place", len(rec.done))
	}
	return rec.done[0], nil
}

// only shows one file of a directory, so that what goose finds wrong with it is not said of another.
type only struct {
	fs.FS
	name string
}

// Glob is how goose looks for files.
func (o only) Glob(pattern string) ([]string, error) {
	match, err := path.Match(pattern, o.name)
	if err != nil || !match {
		return nil, err
	}
	return []string{o.name}, nil
}

// recorder is both ends of goose: the database that it sends statements to, and the store that it
// tells which version they belonged to. Goose uses one connection and one goroutine.
type recorder struct {
	applied    bool // whether the file is applied before it runs
	began      bool
	statements []string
	done       []compiled
}

// The database: a connector, its driver, its only connection and its transactions.

func (r *recorder) Connect(context.Context) (driver.Conn, error) { return r, nil }
func (r *recorder) Driver() driver.Driver                        { return r }
func (r *recorder) Open(string) (driver.Conn, error)             { return r, nil }
func (r *recorder) Close() error                                 { return nil }
func (r *recorder) Begin() (driver.Tx, error)                    { r.began = true; return r, nil }
func (r *recorder) Commit() error                                { return nil }
func (r *recorder) Rollback() error                              { return nil }

func (r *recorder) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("goose prepared a statement, which it does not do for SQL files")
}

func (r *recorder) ExecContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	r.statements = append(r.statements, query)
	return driver.ResultNoRows, nil
}

// The store: it learns at the end of each file which version that was.

func (r *recorder) Tablename() string { return "schema_version" }

func (r *recorder) TableExists(context.Context, database.DBTxConn) (bool, error) { return true, nil }

func (r *recorder) CreateVersionTable(context.Context, database.DBTxConn) error { return nil }

func (r *recorder) Insert(_ context.Context, _ database.DBTxConn, req database.InsertRequest) error {
	r.done = append(r.done, compiled{version: req.Version, statements: r.statements, noTransaction: !r.began})
	r.statements, r.began = nil, false
	return nil
}

func (r *recorder) Delete(ctx context.Context, conn database.DBTxConn, version int64) error {
	return r.Insert(ctx, conn, database.InsertRequest{Version: version})
}

func (r *recorder) GetMigration(context.Context, database.DBTxConn, int64) (*database.GetMigrationResult, error) {
	if !r.applied {
		return nil, database.ErrVersionNotFound
	}
	return &database.GetMigrationResult{IsApplied: true}, nil
}

func (r *recorder) GetLatestVersion(context.Context, database.DBTxConn) (int64, error) {
	if len(r.done) == 0 {
		return 0, nil
	}
	return r.done[len(r.done)-1].version, nil
}

// ListMigrations answers with goose's version zero: a database that exists and has nothing.
func (r *recorder) ListMigrations(context.Context, database.DBTxConn) ([]*database.ListMigrationsResult, error) {
	return []*database.ListMigrationsResult{{Version: 0, IsApplied: true}}, nil
}
