package router

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/pools"
)

// statementCacheSize bounds the prepared statements of one connection, over all its schemas.
const statementCacheSize = 512

// session is what the router knows of one server connection. It lives as long as the connection.
//
// Behind a pooler, what looks like one connection is any of several backends, from transaction to transaction. A pooled
// session therefore leaves nothing on a backend that a later packet would rely on: it prepares no statement by name, its
// tokens are bound to no backend, and every opening checks the database's stamp again, since a pooler may be pointed
// elsewhere while the connection stays.
type session struct {
	pg     *pgconn.PgConn
	pooled bool
	types  *pgtype.Map
	extend func(*pgtype.Map) // adds the application's types; may be nil
	sealer *isolation.Sealer // nil: a login that does not enter tenants
	clock  time.Duration     // the server's clock less ours

	fixed  map[string]*statement // what the router itself sends, described when the connection opened
	reset  []*statement
	cached *lru.Cache[cacheKey, *statement] // what the application sends
	evict  []string                         // names to deallocate with the next packet
	serial int                              // of the last statement name
}

// statement is a statement's description with the result formats that its columns are best read in. One without a name is
// sent by its text.
type statement struct {
	*pgconn.StatementDescription
	formats []int16
}

// fixedSQL is what every connection prepares when it opens.
var fixedSQL = []string{beginSQL(TxOptions{}), beginSQL(TxOptions{ReadOnly: true})}

// sessionKey is where a connection carries its session.
const sessionKey = "landlord session"

// openSession makes a connection to the database id ready: it has the router's own statements described, and prepared by
// name unless the session is pooled, and keeps what it learned on the connection. door is the statement that opens a
// transaction, others what else the router sends here.
func openSession(ctx context.Context, conn *pgx.Conn, id isolation.Identity, door string, others, reset []string, extend func(*pgtype.Map)) (*session, error) {
	s := &session{pg: conn.PgConn(), types: conn.TypeMap(), extend: extend, fixed: make(map[string]*statement)}
	s.pooled = isolation.Pooled(conn, id)
	if extend != nil {
		extend(s.types)
	}
	var err error
	s.cached, err = lru.NewWithEvict(statementCacheSize, func(_ cacheKey, st *statement) {
		if st.Name != "" {
			s.evict = append(s.evict, st.Name)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("make a statement cache: %w", err)
	}
	opened := door
	if s.pooled {
		opened = stampedSQL(door, id.Stamp)
		again, err := s.settings(conn.Config().RuntimeParams)
		if err != nil {
			return nil, err
		}
		reset = append(reset, again...)
	}
	sqls := slices.Concat([]string{opened}, others, fixedSQL, reset)
	p := s.pg.StartPipeline(ctx)
	names := make([]string, len(sqls))
	for i, sql := range sqls {
		names[i] = s.name()
		p.SendPrepare(names[i], sql, nil)
	}
	err = p.Sync()
	for i, sql := range sqls {
		if err != nil {
			break
		}
		var st *statement
		if st, err = s.described(p, names[i], sql); err == nil {
			s.fixed[sql] = st
		}
	}
	if closeErr := p.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the router's statements: %w", err)
	}
	s.fixed[door] = s.fixed[opened]
	for _, sql := range reset {
		s.reset = append(s.reset, s.fixed[sql])
	}
	s.pg.CustomData()[sessionKey] = s
	return s, nil
}

// settings says again what the connection was opened with, for after a reset: a pooler's backends were not.
func (s *session) settings(params map[string]string) (sqls []string, err error) {
	for _, name := range []string{"application_name", "timezone"} {
		value, err := s.pg.EscapeString(params[name])
		if err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
		sqls = append(sqls, "set "+name+" = '"+value+"'")
	}
	return sqls, nil
}

// stampedSQL opens the door, a "select" of one value, only in the database with this stamp. In any other it fails with
// pgerr.InvalidText.
func stampedSQL(door, stamp string) string {
	return fmt.Sprintf(`
select case when (select stamp from landlord.identity) = '%s'
            then %s
            else pg_catalog.concat(pg_catalog.current_database(), ' has another stamp')::pg_catalog.uuid::pg_catalog.text end`,
		stamp, strings.TrimPrefix(strings.TrimSpace(door), "select"))
}

// ownTypes makes a map like the session's, which the caller may change.
func (s *session) ownTypes() *pgtype.Map {
	m := pgtype.NewMap()
	if s.extend != nil {
		s.extend(m)
	}
	return m
}

func sessionOf(conn *pools.Conn) *session {
	return conn.PgConn().CustomData()[sessionKey].(*session)
}

// backend is the process that tokens are bound to; 0: none.
func (s *session) backend() uint32 {
	if s.pooled {
		return 0
	}
	return s.pg.PID()
}

// elsewhere tells whether the door's statement failed because it is another database's: see stampedSQL, or there is no such
// door at all.
func elsewhere(err error) bool {
	return pgerr.Is(err, pgerr.InvalidText, pgerr.UndefinedSchema, pgerr.UndefinedTable, pgerr.UndefinedColumn,
		pgerr.UndefinedFunction, pgerr.InsufficientPrivilege)
}

// heal undoes what keeps a pooled session from being opened: the pooler would hand the backend to the next connection as it
// is. It hits the right one for certain where that still is in the transaction; elsewhere a pooler is likely to take the one
// used last, and if not, the next try heals that one.
func (s *session) heal() {
	if !s.pooled || s.pg.IsClosed() {
		return
	}
	var sql string
	if s.pg.TxStatus() == 'E' {
		sql = "rollback;"
	}
	for _, st := range s.reset {
		sql += st.SQL + ";"
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	_ = s.pg.Exec(ctx, sql).Close()
}

// name makes the name of the next statement: none where it would stay on a backend that the next packet may not meet.
func (s *session) name() string {
	if s.pooled {
		return ""
	}
	s.serial++
	return "landlord_" + strconv.Itoa(s.serial)
}

// described reads the answer to SendPrepare.
func (s *session) described(p *pgconn.Pipeline, name, sql string) (*statement, error) {
	results, err := p.GetResults()
	if err != nil {
		return nil, err
	}
	sd, ok := results.(*pgconn.StatementDescription)
	if !ok {
		return nil, fmt.Errorf("prepare: unexpected answer %T", results)
	}
	sd.Name, sd.SQL = name, sql
	st := &statement{StatementDescription: sd, formats: make([]int16, len(sd.Fields))}
	for i, f := range sd.Fields {
		st.formats[i] = s.types.FormatCodeForOID(f.DataTypeOID)
	}
	return st, nil
}

// cacheKey keeps the plans of different schemas apart: the same text means other tables in another search_path.
type cacheKey struct{ schema, sql string }

// send adds the statement to a packet. Without result columns both ways of pgconn say the same, and one costs it less. A
// text goes with the parameter types that it was described with: values are encoded for those.
func (st *statement) send(p *pgconn.Pipeline, values [][]byte, formats, results []int16) {
	switch {
	case st.Name == "":
		p.SendQueryParams(st.SQL, values, st.ParamOIDs, formats, results)
	case len(st.Fields) == 0:
		p.SendQueryPrepared(st.Name, values, formats, results)
	default:
		p.SendQueryStatement(st.StatementDescription, values, formats, results)
	}
}

// serverTime returns the server's time.
func (s *session) serverTime() time.Time { return time.Now().Add(s.clock) }
