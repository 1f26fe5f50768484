package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/move/table"
)

// Options of a comparison.
type Options struct {
	Workers int // sessions at each home; 0: 2
	MaxKeys int // how many keys are listed of a table that differs; 0: 20
	// Progress, if not nil, hears of each table when it is done, from one goroutine at a time.
	Progress func(Result)
}

// Report is what a comparison has found.
type Report struct {
	Tables  []Result // in the order of the pairs, references last
	Orphans []Orphan // foreign keys of the target that lead nowhere
	Rows    int64    // compared, of the source
	Took    time.Duration
}

// Result is what was found of one table.
type Result struct {
	Table          string
	Source, Target Sum
	Keys           []Difference // of rows that differ; empty where none do
	More           bool         // there are more than are listed
}

// Sum stands for all of a tenant's rows of a table.
type Sum struct {
	Rows int64
	Hash string // sum of the rows' hashes, a number
}

// Equal tells whether both homes have the same rows.
func (r Result) Equal() bool { return r.Source == r.Target }

// Difference is a row that is not the same at both homes.
type Difference struct {
	Key  []string // the row's key without tenant_id, as text
	Kind Kind
}

// Kind is how a row differs.
type Kind string

// The kinds.
const (
	Missing Kind = "missing" // only the source has it
	Extra   Kind = "extra"   // only the target has it
	Changed Kind = "changed" // both have it, with other values
)

// Orphan is a foreign key of the target with rows that refer to none.
type Orphan struct {
	Table, Constraint string
	Rows              int64
}

// MismatchError reports homes that differ.
type MismatchError struct{ Report Report }

func (e *MismatchError) Error() string {
	var what []string
	for _, t := range e.Report.Tables {
		if t.Equal() {
			continue
		}
		s := fmt.Sprintf("table %s has %d rows at the source and %d at the target", t.Table, t.Source.Rows, t.Target.Rows)
		if t.Source.Rows == t.Target.Rows {
			s = fmt.Sprintf("table %s has %d rows at both, and not the same", t.Table, t.Source.Rows)
		}
		if len(t.Keys) > 0 {
			s += fmt.Sprintf(" (first %s: key %s)", t.Keys[0].Kind, strings.Join(t.Keys[0].Key, ", "))
		}
		what = append(what, s)
	}
	for _, o := range e.Report.Orphans {
		what = append(what, fmt.Sprintf("%d rows of table %s refer to none (%s)", o.Rows, o.Table, o.Constraint))
	}
	return "compare the homes: they differ: " + strings.Join(what, "; ")
}

// Err is a *MismatchError where something differs.
func (r Report) Err() error {
	if len(r.Orphans) == 0 && !slices.ContainsFunc(r.Tables, func(t Result) bool { return !t.Equal() }) {
		return nil
	}
	return &MismatchError{Report: r}
}

// References pairs the reference tables of two homes by name, to be compared like the tenant's own.
func References(source, target []table.Table) (pairs []table.Pair) {
	for _, s := range source {
		i := slices.IndexFunc(target, func(t table.Table) bool { return t.Name == s.Name })
		if s.Class == table.Reference && i >= 0 && target[i].Class == table.Reference {
			pairs = append(pairs, table.Pair{Source: s, Target: target[i], TenantColumn: table.Absent, SourceKey: s.Key})
		}
	}
	return pairs
}

// Compare reads every table of pairs at both snapshots, and checks the target's foreign keys. Homes that differ are no error: see
// Report.Err. With nothing to compare it does nothing. The snapshots stay open, also when ctx ends.
func Compare(ctx context.Context, source, target *Snapshot, pairs []table.Pair, opts Options) (Report, error) {
	c := &comparison{
		source: source, target: target, opts: opts, pairs: pairs,
		report: Report{Tables: make([]Result, len(pairs))},
	}
	c.opts.Workers = min(cmp.Or(opts.Workers, 2), max(1, len(pairs)))
	c.opts.MaxKeys = cmp.Or(opts.MaxKeys, 20)
	began := time.Now()
	if err := c.run(ctx); err != nil {
		return Report{}, fmt.Errorf("compare the homes: %w", err)
	}
	slices.SortFunc(c.report.Orphans, func(a, b Orphan) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), strings.Compare(a.Constraint, b.Constraint))
	})
	c.report.Took = time.Since(began)
	return c.report, nil
}

// comparison is one run of Compare.
type comparison struct {
	source, target *Snapshot
	opts           Options
	pairs          []table.Pair

	mu     sync.Mutex // guards what follows
	next   int        // of pairs
	report Report
}

func (c *comparison) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, c.opts.Workers)
	var work sync.WaitGroup
	for i := range errs {
		work.Go(func() {
			if errs[i] = c.work(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	work.Wait()
	for _, err := range errs { // the first cause, not those that were cancelled for it
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

// work compares tables until none is left.
func (c *comparison) work(ctx context.Context) error {
	source, err := c.source.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, source)
	target, err := c.target.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, target)
	for {
		c.mu.Lock()
		i := c.next
		c.next++
		c.mu.Unlock()
		if i >= len(c.pairs) {
			return nil
		}
		p := pair{Pair: c.pairs[i], source: source, target: target}
		r, err := p.compare(ctx, c.opts.MaxKeys)
		var orphans []Orphan
		if err == nil {
			orphans, err = p.orphans(ctx)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", p.Source.Name, err)
		}
		c.mu.Lock()
		c.report.Tables[i] = r
		c.report.Rows += r.Source.Rows
		c.report.Orphans = append(c.report.Orphans, orphans...)
		if c.opts.Progress != nil {
			c.opts.Progress(r)
		}
		c.mu.Unlock()
	}
}

// pair is a pair of tables with a session at each home.
type pair struct {
	table.Pair
	source, target *pgx.Conn
}

// both runs fn for both homes at once.
func (p pair) both(fn func(conn *pgx.Conn, t table.Table, source bool) error) error {
	var errs [2]error
	var work sync.WaitGroup
	work.Go(func() { errs[0] = fn(p.source, p.Source, true) })
	errs[1] = fn(p.target, p.Target, false)
	work.Wait()
	return errors.Join(errs[:]...)
}

// hashed is the hash of a row as text. hash_record takes 1.5 and 1.50 for equal, and xor lets pairs cancel; this does neither.
func (p pair) hashed() string {
	return "hashtextextended(row(" + table.Quoted(p.Compared(), "") + ")::text, 0)"
}

func (p pair) compare(ctx context.Context, maxKeys int) (Result, error) {
	r := Result{Table: p.Source.Name}
	err := p.both(func(conn *pgx.Conn, t table.Table, source bool) error {
		sum := &r.Target
		if source {
			sum = &r.Source
		}
		q := fmt.Sprintf("select count(*), coalesce(sum(%s::numeric), 0)::text from %s where %s", p.hashed(), t.From(), t.Whose(p.Tenant))
		return conn.QueryRow(ctx, q).Scan(&sum.Rows, &sum.Hash)
	})
	if err == nil && !r.Equal() {
		r.Keys, r.More, err = p.differences(ctx, max(r.Source.Rows, r.Target.Rows), maxKeys)
	}
	return r, err
}

// orphans checks the foreign keys of the target: the rows came in with triggers off.
func (p pair) orphans(ctx context.Context) (found []Orphan, err error) {
	for _, f := range p.Target.ForeignKeys {
		var set, same []string
		for i, c := range f.Columns {
			column := "t." + pgx.Identifier{c}.Sanitize()
			set = append(set, column+" is not null")
			same = append(same, "r."+pgx.Identifier{f.RefColumns[i]}.Sanitize()+" = "+column)
		}
		whose := p.Target.Whose(p.Tenant)
		if p.Target.HasTenantID {
			whose = "t." + whose
		}
		q := fmt.Sprintf("select count(*) from %s t where %s and %s and not exists (select from %s r where %s)",
			p.Target.From(), whose, strings.Join(set, " and "), pgx.Identifier{f.RefSchema, f.RefTable}.Sanitize(), strings.Join(same, " and "))
		o := Orphan{Table: p.Target.Name, Constraint: f.Name}
		if err := p.target.QueryRow(ctx, q).Scan(&o.Rows); err != nil {
			return nil, fmt.Errorf("check foreign key %s: %w", f.Name, err)
		}
		if o.Rows > 0 {
			found = append(found, o)
		}
	}
	return found, nil
}
