package router

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// call is one statement with its arguments.
type call struct {
	sql  string
	args []any
	std  bool // for database/sql, see stdFormats
}

// opening is what goes in front of the first statement of a transaction. With begin it opens a transaction block; without,
// everything up to the end of the exchange is one implicit transaction.
type opening struct {
	begin  string // empty: implicit
	enter  string // the statement that opens the door
	params func(*session) [][]byte
	path   string // search_path; empty: the login's own
}

// exchange is one packet of statements and its answers.
type exchange struct {
	s        *session
	p        *pgconn.Pipeline
	schema   string
	calls    []call
	implicit bool // the packet is a transaction: losing the connection leaves its outcome unknown
	entered  bool // what goes in front of the calls was accepted
	broken   bool // the session could not be reset
	synced   bool // the packet's end has been sent
	ended    bool
	left     int // answers not read yet
	first    *pgconn.ResultReader
}

// encoded holds one call's parameters as they travel.
type encoded struct {
	values  [][]byte
	formats []int16
}

// start sends open, if any, and calls in one packet, and reads up to the first answer of calls. Statements that this
// connection has not prepared cost one more round trip: an unqualified table of a schema home cannot be prepared before
// the opening has run. entered tells whether the opening was accepted. An error of the opening is a *refusal. After an
// error the exchange is over, and the connection idle, in the caller's transaction, or closed.
func (s *session) start(ctx context.Context, open *opening, schema string, calls []call) (ex *exchange, entered bool, err error) {
	stmts, missing := s.lookUp(schema, calls)
	var params []encoded
	if !missing { // a bad argument costs no packet
		if params, err = s.encode(stmts, calls); err != nil {
			return nil, false, err
		}
	}

	ex = &exchange{
		s: s, p: s.pg.StartPipeline(ctx), schema: schema, calls: calls,
		implicit: open != nil && open.begin == "", entered: open == nil, left: len(calls),
	}
	before := s.sendBefore(ex.p, open)
	if missing {
		err = ex.prepare(stmts, before)
		if err == nil {
			params, err = s.encode(stmts, calls)
		}
	}
	if err == nil {
		for i, st := range stmts {
			formats := st.formats
			if calls[i].std {
				formats = stdFormats(st.Fields)
			}
			st.send(ex.p, params[i].values, params[i].formats, formats)
		}
		err = ex.sync()
	}
	if err == nil && !missing {
		err = ex.readBefore(before)
	}
	if err == nil {
		ex.first, err = ex.next()
	}
	if err != nil {
		return nil, open != nil && ex.entered, ex.fail(err)
	}
	return ex, open != nil, nil
}

// lookUp finds the prepared statements of calls; a nil one is missing.
func (s *session) lookUp(schema string, calls []call) (stmts []*statement, missing bool) {
	stmts = make([]*statement, len(calls))
	for i, c := range calls {
		st, ok := s.fixed[c.sql]
		if !ok {
			st, ok = s.cached.Get(cacheKey{schema, c.sql})
		}
		stmts[i], missing = st, missing || !ok
	}
	return stmts, missing
}

// answers counts what sendBefore has sent.
type answers struct{ evicted, begin, reset, opening int }

// sendBefore sends what goes in front of the calls.
func (s *session) sendBefore(p *pgconn.Pipeline, open *opening) (n answers) {
	for _, name := range s.evict {
		p.SendDeallocate(name)
	}
	n.evicted = len(s.evict)
	if open == nil {
		return n
	}
	if open.begin != "" { // in front of the reset: some of it would fix the snapshot before the isolation level is said
		if st := s.fixed[open.begin]; st != nil {
			st.send(p, nil, nil, nil)
		} else {
			p.SendQueryParams(open.begin, nil, nil, nil, nil)
		}
		n.begin++
	}
	for _, st := range s.reset {
		st.send(p, nil, nil, st.formats)
	}
	n.reset = len(s.reset)
	enter := s.fixed[open.enter]
	enter.send(p, open.params(s), nil, enter.formats)
	n.opening++
	if open.path != "" {
		if st := s.fixed[pathSQL]; st != nil {
			st.send(p, [][]byte{[]byte(open.path)}, nil, st.formats)
		} else {
			p.SendQueryParams("set local search_path = "+open.path, nil, nil, nil, nil)
		}
		n.opening++
	}
	return n
}

// readBefore reads the answers to sendBefore.
func (ex *exchange) readBefore(n answers) error {
	lead := n.evicted + n.begin
	for i := range lead + n.reset + n.opening {
		results, err := ex.p.GetResults()
		if rr, ok := results.(*pgconn.ResultReader); ok && err == nil {
			_, err = rr.Close()
		}
		if err != nil {
			ex.broken = i >= lead && i < lead+n.reset
			return err
		}
		if i == n.evicted-1 {
			ex.s.evict = ex.s.evict[n.evicted:]
		}
	}
	ex.entered = true
	return nil
}

// prepare reads the answers to sendBefore, prepares the statements that are nil in stmts, and fills them in. The cache keeps
// a statement only once the server has it.
func (ex *exchange) prepare(stmts []*statement, before answers) error {
	s := ex.s
	fresh := make(map[string]*statement)
	names := make(map[string]string)
	var order []string
	for i, c := range ex.calls {
		if stmts[i] == nil && names[c.sql] == "" {
			names[c.sql] = s.name()
			order = append(order, c.sql)
			ex.p.SendPrepare(names[c.sql], c.sql, nil)
		}
	}
	ex.p.SendFlushRequest()
	if err := ex.p.Flush(); err != nil {
		return err
	}
	if err := ex.readBefore(before); err != nil {
		return err
	}
	for _, sql := range order {
		st, err := s.described(ex.p, names[sql], sql)
		if err != nil {
			return err
		}
		fresh[sql] = st
		if verb, _ := firstWord(sql); verb == "fetch" { // its columns are those of a cursor that is gone by the next time
			s.evict = append(s.evict, st.Name)
		} else {
			s.cached.Add(cacheKey{ex.schema, sql}, st)
		}
	}
	for i, c := range ex.calls {
		if stmts[i] == nil {
			stmts[i] = fresh[c.sql]
		}
	}
	return nil
}

// encode encodes every call before any is sent, so that a bad argument never lets half a batch run.
func (s *session) encode(stmts []*statement, calls []call) ([]encoded, error) {
	params := make([]encoded, len(calls))
	for i, c := range calls {
		st := stmts[i]
		if len(c.args) != len(st.ParamOIDs) {
			return nil, fmt.Errorf("encode arguments: %d given, the statement has %d", len(c.args), len(st.ParamOIDs))
		}
		var eqb pgx.ExtendedQueryBuilder
		if err := eqb.Build(s.types, st.StatementDescription, c.args); err != nil {
			return nil, fmt.Errorf("encode arguments: %w", err)
		}
		params[i] = encoded{eqb.ParamValues, eqb.ParamFormats}
	}
	return params, nil
}

// forgetStale drops prepared statements that a schema change has made useless, so that the next try prepares them anew.
func (ex *exchange) forgetStale(err error) {
	if !stalePlan(err) {
		return
	}
	for _, c := range ex.calls {
		ex.s.cached.Remove(cacheKey{ex.schema, c.sql})
	}
}

// stalePlan tells whether err says that a prepared statement no longer fits: it did not run.
func stalePlan(err error) bool {
	if !pgerr.Is(err, pgerr.FeatureNotSupported) {
		return pgerr.Is(err, pgerr.InvalidPreparedStatement)
	}
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Routine == "RevalidateCachedQuery"
}

// next returns the next call's answer.
func (ex *exchange) next() (*pgconn.ResultReader, error) {
	if rr := ex.first; rr != nil {
		ex.first = nil
		return rr, nil
	}
	if ex.left == 0 {
		return nil, errors.New("no more results in this exchange")
	}
	ex.left--
	results, err := ex.p.GetResults()
	if err != nil {
		ex.forgetStale(err)
		return nil, err
	}
	rr, ok := results.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("read results: unexpected answer %T", results)
	}
	return rr, nil
}

func (ex *exchange) sync() error {
	ex.synced = true
	return ex.p.Sync()
}

// finish reads to ReadyForQuery and returns err, the first error met until now, or else what went wrong on the way there.
// Only now is a statement's success known: a deferred constraint fails at the implicit commit.
func (ex *exchange) finish(err error) error {
	if !ex.ended {
		ex.ended = true
		if closeErr := ex.p.Close(); err == nil {
			err = closeErr
		}
	}
	return ex.settle(err)
}

// settle types an error that came after everything was sent. While the connection lives it is the server's own answer, or
// the caller's mistake, and stands.
func (ex *exchange) settle(err error) error {
	switch {
	case err == nil || !ex.s.pg.IsClosed():
		return err
	case ex.implicit:
		return unknown(err)
	}
	return gone(err)
}

// fail ends an exchange that start could not bring to its first answer because of err, which it returns typed.
func (ex *exchange) fail(err error) error {
	sent := ex.synced
	if !sent {
		_ = ex.sync() // the server skips everything up to here
	}
	ex.ended = true
	_ = ex.p.Close()

	pg := ex.s.pg
	var answer *pgconn.PgError
	refused := !ex.entered && errors.As(err, &answer) // and so the server has skipped the calls
	if refused && pgerr.Is(err, pgerr.BadSeal) {
		closeNow(pg) // a new connection asks the server for the time again
		return &refusal{err: err}
	}
	if refused && (ex.broken || pgerr.Is(err, pgerr.InvalidPreparedStatement, pgerr.NoTenant)) {
		closeNow(pg) // not as a fresh one: see enterSQL, or somebody has taken the router's own statements away
	}
	switch {
	case pg.IsClosed() && ex.implicit && sent && !refused:
		return unknown(err)
	case pg.IsClosed():
		err = gone(err)
	case pg.TxStatus() == 'E' && !ex.entered:
		ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
		defer cancel()
		_ = pg.Exec(ctx, "rollback").Close()
	}
	if !ex.entered {
		return &refusal{err: err}
	}
	return err
}
