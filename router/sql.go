package router

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// SQL returns the router as a database/sql handle, for libraries that want one. The tenant is the one that each call's
// context carries. Its driver is the router's own: sql.Conn.Raw leads to no PostgreSQL connection, and a sql.Conn holds
// none between statements. The caller closes it before the router.
func (r *Router) SQL() *sql.DB { return sql.OpenDB(sqlConnector{r}) }

type sqlConnector struct{ r *Router }

func (c sqlConnector) Connect(context.Context) (driver.Conn, error) { return &sqlConn{r: c.r}, nil }
func (c sqlConnector) Driver() driver.Driver                        { return sqlDriver{} }

type sqlDriver struct{}

func (sqlDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("open a landlord connection by name: use Router.SQL")
}

// sqlConn stands for a connection of database/sql. It is only the open transaction, if there is one.
type sqlConn struct {
	r    *Router
	tx   *Tx
	seen observed // the call that tx is
}

var (
	_ driver.QueryerContext    = (*sqlConn)(nil)
	_ driver.ExecerContext     = (*sqlConn)(nil)
	_ driver.ConnBeginTx       = (*sqlConn)(nil)
	_ driver.NamedValueChecker = (*sqlConn)(nil)
)

func (c *sqlConn) querier(ctx context.Context) interface {
	query(context.Context, Op, string, []any) (*rows, error)
} {
	if c.tx != nil {
		return tracedTx{c.tx}
	}
	return c.db(ctx)
}

// db returns the handle of ctx's tenant.
func (c *sqlConn) db(ctx context.Context) *DB {
	db := c.r.FromContext(ctx)
	db.std = true
	return db
}

// tracedTx is a Tx whose query checks and traces the statement, as DB's does.
type tracedTx struct{ tx *Tx }

func (t tracedTx) query(ctx context.Context, op Op, sql string, args []any) (*rows, error) {
	return t.tx.traced(ctx, op, sql, args)
}

func (c *sqlConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	r, err := c.querier(ctx).query(ctx, OpExec, query, sqlArgs(args))
	if err != nil {
		return nil, err
	}
	r.Close()
	if err := r.Err(); err != nil {
		return nil, err
	}
	return driver.RowsAffected(r.CommandTag().RowsAffected()), nil
}

func (c *sqlConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	r, err := c.querier(ctx).query(ctx, OpQuery, query, sqlArgs(args))
	if err != nil {
		return nil, err
	}
	return &sqlRows{rows: r}, nil
}

func (c *sqlConn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return &sqlStmt{conn: c, query: query}, nil // the router prepares by itself, where the statement runs
}

func (c *sqlConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

func (c *sqlConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	o := TxOptions{ReadOnly: opts.ReadOnly}
	switch level := sql.IsolationLevel(opts.Isolation); level {
	case sql.LevelDefault:
	case sql.LevelReadUncommitted, sql.LevelReadCommitted:
		o.Isolation = pgx.ReadCommitted
	case sql.LevelRepeatableRead, sql.LevelSnapshot:
		o.Isolation = pgx.RepeatableRead
	case sql.LevelSerializable:
		o.Isolation = pgx.Serializable
	default:
		return nil, fmt.Errorf("%w: isolation level %s", ErrRefused, level)
	}
	db := c.db(ctx)
	ctx, seen := db.r.observe(ctx, Call{Op: OpTx, Tenant: db.id})
	tx, err := db.begin(ctx, o)
	if err != nil {
		seen.end(way{}, err)
		return nil, err
	}
	c.tx, c.seen = tx, seen
	return &sqlTx{ctx: ctx, conn: c}, nil
}

func (c *sqlConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// CheckNamedValue lets every value through: the router encodes by the statement's types.
func (c *sqlConn) CheckNamedValue(v *driver.NamedValue) error {
	if v.Name != "" {
		return fmt.Errorf("%w: named arguments of database/sql", ErrRefused)
	}
	return nil
}

func (c *sqlConn) Close() error {
	if c.tx == nil {
		return nil
	}
	return c.end(c.tx.rollback(context.Background()))
}

// end forgets the transaction, which has ended with err.
func (c *sqlConn) end(err error) error {
	c.seen.end(c.tx.way, err)
	c.tx = nil
	return err
}

func sqlArgs(values []driver.NamedValue) []any {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v.Value
	}
	return args
}

type sqlTx struct {
	ctx  context.Context //nolint:containedctx // database/sql ends transactions without one
	conn *sqlConn
}

func (t *sqlTx) Commit() error {
	return t.conn.end(t.conn.tx.commit(t.ctx))
}

func (t *sqlTx) Rollback() error {
	return t.conn.end(t.conn.tx.rollback(t.ctx))
}

type sqlStmt struct {
	conn  *sqlConn
	query string
}

func (s *sqlStmt) Close() error  { return nil }
func (s *sqlStmt) NumInput() int { return -1 } // the server checks

func (s *sqlStmt) Exec([]driver.Value) (driver.Result, error) { return nil, errNoContext }
func (s *sqlStmt) Query([]driver.Value) (driver.Rows, error)  { return nil, errNoContext }

// errNoContext reports a call that database/sql never makes of a driver with contexts.
var errNoContext = fmt.Errorf("%w: a statement without a context", ErrRefused)

func (s *sqlStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, args)
}

func (s *sqlStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, args)
}

// sqlRows turns the router's rows into database/sql's.
type sqlRows struct {
	rows  *rows
	names []string
}

func (r *sqlRows) Columns() []string {
	if r.names == nil {
		for _, f := range r.rows.FieldDescriptions() {
			r.names = append(r.names, f.Name)
		}
	}
	return r.names
}

func (r *sqlRows) Close() error {
	r.rows.Close()
	return r.rows.Err()
}

func (r *sqlRows) Next(dest []driver.Value) error {
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	return r.rows.read(func() error {
		m, fields := r.rows.session.types, r.rows.Rows.FieldDescriptions()
		for i, raw := range r.rows.Rows.RawValues() {
			v, err := stdValue(m, fields[i], raw)
			if err != nil {
				return fmt.Errorf("read column %s: %w", fields[i].Name, err)
			}
			dest[i] = v
		}
		return nil
	})
}

// stdTypes are the types that database/sql has a Go type for. They travel in binary form.
var stdTypes = map[uint32]bool{
	pgtype.BoolOID: true, pgtype.ByteaOID: true, pgtype.Int2OID: true, pgtype.Int4OID: true, pgtype.Int8OID: true,
	pgtype.Float4OID: true, pgtype.Float8OID: true, pgtype.DateOID: true, pgtype.TimestampOID: true, pgtype.TimestamptzOID: true,
}

// stdFormats returns the result formats of a statement whose results database/sql reads: whatever it has no type for is text.
func stdFormats(fields []pgconn.FieldDescription) []int16 {
	formats := make([]int16, len(fields))
	for i, f := range fields {
		if stdTypes[f.DataTypeOID] {
			formats[i] = pgx.BinaryFormatCode
		}
	}
	return formats
}

// stdValue decodes a value of one of stdFormats.
func stdValue(m *pgtype.Map, f pgconn.FieldDescription, raw []byte) (driver.Value, error) {
	if raw == nil {
		return nil, nil
	}
	if t, ok := m.TypeForOID(f.DataTypeOID); ok && f.Format == pgx.BinaryFormatCode {
		return t.Codec.DecodeDatabaseSQLValue(m, f.DataTypeOID, f.Format, raw)
	}
	return string(raw), nil
}
