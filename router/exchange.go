package router

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	demand *demand // of the home; nil: none
	path   string  // search_path; empty: the login's own
}

// exchange is one packet of statements and its answers.
type exchange struct {
	s        *session
	p        *pgconn.Pipeline
	schema   string
	calls    []call
	stmts    []*statement // of calls
	known    bool         // some of them were described earlier, and may be out of date
	implicit bool         // the packet is a transaction: losing the connection leaves its outcome unknown
	entered  bool         // what goes in front of the calls was accepted
	broken   bool         // the session could not be reset
	shut     bool         // the door's own statement failed
	synced   bool         // the packet's end has been sent
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
// connection has not met cost one more round trip: an unqualified table of a schema home cannot be described before the
// opening has run. entered tells whether the opening was accepted. An error of the opening is a *refusal. After an
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
		s: s, p: s.pg.StartPipeline(ctx), schema: schema, calls: calls, stmts: stmts, known: slices.ContainsFunc(stmts, isKnown),
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

func isKnown(st *statement) bool { return st != nil }

// lookUp finds the described statements of calls; a nil one is missing.
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
type answers struct {
	evicted, begin, reset, opening int
	demand                         *demand // nil: none was sent
}

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
	if d := open.demand; d != nil && !d.met.Load() {
		st := s.fixed[demandSQL]
		st.send(p, d.params(), nil, st.formats)
		n.opening++
		n.demand = d
	}
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
			ex.shut = i == lead+n.reset && n.opening > 0
			return err
		}
		if i == n.evicted-1 {
			ex.s.evict = ex.s.evict[n.evicted:]
		}
	}
	ex.entered = true
	if n.demand != nil {
		n.demand.met.Store(true)
	}
	return nil
}

// prepare reads the answers to sendBefore, has the statements described that are nil in stmts, and fills them in. The cache
// keeps a statement only once the server has accepted it.
func (ex *exchange) prepare(stmts []*statement, before answers) error {
	s := ex.s
	fresh := make(map[string]*statement)
	names := make(map[string]string)
	var order []string
	for i, c := range ex.calls {
		if stmts[i] != nil || slices.Contains(order, c.sql) {
			continue
		}
		names[c.sql] = s.name()
		order = append(order, c.sql)
		ex.p.SendPrepare(names[c.sql], c.sql, nil)
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
		verb, _ := firstWord(sql)
		switch {
		case verb != "fetch":
			s.cached.Add(cacheKey{ex.schema, sql}, st)
		case st.Name != "": // its columns are those of a cursor that is gone by the next time
			s.evict = append(s.evict, st.Name)
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

// staleError is PostgreSQL's refusal of a statement that was prepared or described before a schema change. It did not run,
// and by now it is forgotten: the next try meets the schema as it is.
type staleError struct{ error }

func (e staleError) Unwrap() error { return e.error }

// stalePlan tells whether err is a staleError: worth another try, if nothing else has run.
func stalePlan(err error) bool {
	_, ok := errors.AsType[staleError](err)
	return ok
}

// forgetStale drops statements that a schema change has made useless, if err says so.
func (ex *exchange) forgetStale(err error) error {
	if !ex.known || !outdated(err) {
		return err
	}
	ex.forget()
	return staleError{err}
}

func (ex *exchange) forget() {
	for _, c := range ex.calls {
		ex.s.cached.Remove(cacheKey{ex.schema, c.sql})
	}
}

// outdated tells whether err may come of a statement that no longer fits the schema.
func outdated(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch answer.Routine {
	case "RevalidateCachedQuery": // other columns than it was prepared with
		return pgerr.Is(err, pgerr.FeatureNotSupported)
	case "PortalSetResultFormat": // by text: another number of columns than formats were asked for
		return pgerr.Is(err, pgerr.ProtocolViolation)
	case "getTypeInputInfo", "getTypeBinaryInputInfo": // a parameter's type is gone; PostgreSQL names the parameter as the place
		return pgerr.Is(err, pgerr.InternalError)
	}
	if answer.Where != "" { // within a function: it was running
		return false
	}
	if pgerr.Is(err, pgerr.InvalidPreparedStatement, pgerr.InternalError) { // the latter: by text, such a type is looked up sooner
		return true
	}
	// A place in our own text was found wrong while it was read: a column has gone, or its type no longer goes with that of
	// a parameter. What fails while it runs has no place.
	return pgerr.Is(err, "42") && answer.Position > 0
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
		return nil, ex.forgetStale(err)
	}
	rr, ok := results.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("read results: unexpected answer %T", results)
	}
	if st := ex.stmts[len(ex.calls)-ex.left-1]; st.Name == "" && !slices.EqualFunc(st.Fields, rr.FieldDescriptions(), sameType) {
		ex.forget() // the answer is right, but the formats were chosen for other columns
	}
	return rr, nil
}

func sameType(a, b pgconn.FieldDescription) bool { return a.DataTypeOID == b.DataTypeOID }

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
	pg := ex.s.pg
	sent := ex.synced
	if !sent && !pg.IsClosed() { // a closed one is pgconn's, which is saying goodbye on a goroutine of its own
		_ = ex.sync() // the server skips everything up to here
	}
	ex.ended = true
	_ = ex.p.Close()

	refused := !ex.entered && pgerr.Code(err) != "" && !(ex.s.pooled && pgerr.FromPooler(err)) // the server has skipped the calls
	if refused && pgerr.Is(err, pgerr.BadSeal) {
		closeNow(pg) // a new connection asks the server for the time again
		return &refusal{err: err}
	}
	if refused && ex.s.pooled && ex.shut && elsewhere(err) {
		closeNow(pg) // a new connection says more about where it leads
		return &refusal{err: fmt.Errorf("open the transaction: %w: %w", ErrWrongDatabase, err)}
	}
	if refused && (ex.broken || pgerr.Is(err, pgerr.InvalidPreparedStatement, pgerr.NoTenant)) {
		ex.s.heal()
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
