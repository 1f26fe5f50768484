package router

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/pools"
)

// statementCacheSize bounds the prepared statements of one connection, over all its schemas.
const statementCacheSize = 512

// session is what the router knows of one server connection. It lives as long as the connection.
type session struct {
	pg     *pgconn.PgConn
	types  *pgtype.Map
	sealer *isolation.Sealer // nil: a login that does not enter tenants
	clock  time.Duration     // the server's clock less ours

	fixed  map[string]*statement // what the router itself sends, prepared when the connection opened
	reset  []*statement
	cached *lru.Cache[cacheKey, *statement] // what the application sends
	evict  []string                         // names to deallocate with the next packet
	serial int                              // of the last statement name
}

// statement is a prepared statement with the result formats that its columns are best read in.
type statement struct {
	*pgconn.StatementDescription
	formats []int16
}

// fixedSQL is what every connection prepares when it opens.
var fixedSQL = []string{beginSQL(TxOptions{}), beginSQL(TxOptions{ReadOnly: true})}

// sessionKey is where a connection carries its session.
const sessionKey = "landlord session"

// openSession prepares the router's own statements and keeps what it learned on the connection.
func openSession(ctx context.Context, conn *pgx.Conn, reset, opening []string, extend func(*pgtype.Map)) (*session, error) {
	s := &session{pg: conn.PgConn(), types: conn.TypeMap(), fixed: make(map[string]*statement)}
	if extend != nil {
		extend(s.types)
	}
	var err error
	s.cached, err = lru.NewWithEvict(statementCacheSize, func(_ cacheKey, st *statement) { s.evict = append(s.evict, st.Name) })
	if err != nil {
		return nil, fmt.Errorf("make a statement cache: %w", err)
	}
	sqls := slices.Concat(opening, fixedSQL, reset)
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
	for _, sql := range reset {
		s.reset = append(s.reset, s.fixed[sql])
	}
	s.pg.CustomData()[sessionKey] = s
	return s, nil
}

func sessionOf(conn *pools.Conn) *session {
	return conn.PgConn().CustomData()[sessionKey].(*session)
}

func (s *session) name() string {
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

// send adds the statement to a packet. Without result columns both ways of pgconn say the same, and one costs it less.
func (st *statement) send(p *pgconn.Pipeline, values [][]byte, formats, results []int16) {
	if len(st.Fields) == 0 {
		p.SendQueryPrepared(st.Name, values, formats, results)
	} else {
		p.SendQueryStatement(st.StatementDescription, values, formats, results)
	}
}

// serverTime returns the server's time.
func (s *session) serverTime() time.Time { return time.Now().Add(s.clock) }
