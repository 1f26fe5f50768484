package placement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/tenant"
)

// MovePhase is how far a move has come. What follows what is said by package move.
type MovePhase string

// The phases of a move. Done, aborted and reverted are its end.
const (
	MovePlanned     MovePhase = "planned"
	MovePreparing   MovePhase = "preparing"    // the target's home, holds, publications and slots are being made
	MoveCopying     MovePhase = "copying"      // rows are being copied
	MoveFollowing   MovePhase = "following"    // what was written meanwhile is being applied
	MoveVerified    MovePhase = "verified"     // source and target were found equal, and are kept in step
	MoveFencing     MovePhase = "fencing"      // a cutover is being attempted
	MoveCommitted   MovePhase = "committed"    // the source has given the tenant away: there is only forward
	MoveReversing   MovePhase = "reversing"    // the tenant lives at the target, and the source is kept in step
	MoveCompleting  MovePhase = "completing"   // the source is being taken away
	MoveDone        MovePhase = "done"         // the tenant lives at the target, and nothing of the move is left
	MoveAborting    MovePhase = "aborting"     // the target is being taken away
	MoveAborted     MovePhase = "aborted"      // the tenant never left the source, and nothing of the move is left
	MoveRollingBack MovePhase = "rolling-back" // the way back is being attempted
	MoveReverting   MovePhase = "reverting"    // the tenant is back at the source; the target is being taken away
	MoveReverted    MovePhase = "reverted"     // as before the move, and nothing of it is left
)

// MoveAsk is what somebody asks of whoever drives a move.
type MoveAsk string

// What can be asked of a move.
const (
	AskCutover  MoveAsk = "cutover"
	AskRollback MoveAsk = "rollback"
	AskComplete MoveAsk = "complete"
	AskAbort    MoveAsk = "abort"
)

// askedIn says in which phases something can be asked for.
var askedIn = map[MoveAsk][]MovePhase{
	AskCutover:  {MovePlanned, MovePreparing, MoveCopying, MoveFollowing, MoveVerified, MoveFencing},
	AskAbort:    {MovePlanned, MovePreparing, MoveCopying, MoveFollowing, MoveVerified, MoveFencing},
	AskRollback: {MoveCommitted, MoveReversing, MoveRollingBack},
	AskComplete: {MoveCommitted, MoveReversing},
}

// What callers ask about an error of a move.
var (
	ErrNoMove    = errors.New("there is no such move: landlord move list shows those there are")
	ErrMovePhase = errors.New("the move has come too far, or not far enough, for that")
	// ErrMoveLimit reports a cluster that takes part in as many moves as it should.
	ErrMoveLimit = errors.New("too many moves at once: let one of them end, or complete or abort it")
	// ErrMoveClaimed reports a move that another process drives. The error is a [*MoveClaimedError].
	ErrMoveClaimed = errors.New("another process drives the move")
	// ErrMoveLost reports a move that another process has taken over.
	ErrMoveLost = errors.New("another process has taken the move over")
)

// MoveClaimedError says since when another process drives a move.
type MoveClaimedError struct {
	Slug  tenant.Slug
	Since time.Time
	Left  time.Duration // until its lease ends, unless it renews it
}

func (e *MoveClaimedError) Error() string {
	return fmt.Sprintf("%v of tenant %s, since %s: ask it (landlord move cutover, rollback, complete, abort), or stop it first",
		ErrMoveClaimed, e.Slug, e.Since.Format(time.DateTime))
}

// Unwrap makes errors.Is(err, ErrMoveClaimed) true.
func (e *MoveClaimedError) Unwrap() error { return ErrMoveClaimed }

// Place is a home, and how the tenant is kept apart there.
type Place struct {
	Model Model
	Home  Home
}

func (p Place) String() string { return p.Home.String() + " as " + string(p.Model) }

// MoveOptions are chosen when a move begins.
type MoveOptions struct {
	Offline  bool          // the tenant is closed to writers for the whole of the copy
	Auto     bool          // cut over as soon as that is possible, without being asked
	MaxPause time.Duration // greatest time for which a cutover may keep writers waiting. Default: 500 ms
	MaxWAL   int64         // greatest number of bytes that the move's slots may hold back. Default: 10 GiB
	MaxRate  int64         // greatest number of bytes that are copied in a second, at least [LeastMaxRate]. 0: as many as can be
}

// The defaults of MoveOptions.
const (
	DefaultMaxPause = 500 * time.Millisecond
	DefaultMaxWAL   = 10 << 30
)

// LeastMaxRate is the lowest MaxRate, in bytes a second: while a copy lasts, its server keeps the log of all that is written there.
const LeastMaxRate = 32 << 10

func checkMaxRate(perSecond int64) error {
	if perSecond < 0 || perSecond > 0 && perSecond < LeastMaxRate {
		return fmt.Errorf("a copy of at most %d bytes a second: give at least %d, or 0 for as many as can be", perSecond, LeastMaxRate)
	}
	return nil
}

// Move is one relocation of a tenant, as the catalog has it.
type Move struct {
	ID     string // uuid
	Tenant tenant.ID
	Slug   tenant.Slug
	Phase  MovePhase
	Source Place
	Target Place
	Epoch  int64 // the source's; the target opens at the next one, and after a rollback the source at the one after that
	MoveOptions

	// OfRows and OfBytes are how much there is to copy, as was estimated when it began. 0: not known.
	OfRows, OfBytes int64

	Actor      string
	Asked      MoveAsk   // "": nothing
	Driven     bool      // a process drives it now
	OwnedSince time.Time // zero: nobody ever has

	MoveFacts
	Attempts int // cutovers and rollbacks that were begun

	Error       string // of the last attempt to go on; "": none
	StartedAt   time.Time
	PhaseAt     time.Time // it came into its phase
	CommittedAt *time.Time
	EndedAt     *time.Time
}

// MoveFacts are what a driver learns on the way. Their zero values stand for what is not known yet.
type MoveFacts struct {
	ForwardSlot string // of the stream from the source; its publication has the same name
	ReverseSlot string // of the stream from the target
	StartLSN    string // where the source's slot begins: X/Y
	StartXID    uint64 // no transaction below it wrote behind StartLSN
	ReverseLSN  string // what the tenant wrote at the target lies behind it
	NoRollback  string // why there is no way back; "": there is, once it is cut over
	Pause       time.Duration
	Rows        int64 // copied
	Bytes       int64 // copied
	Changes     int64 // applied from the stream
}

// Over reports that the move has ended and nothing of it is left.
func (m Move) Over() bool { return m.EndedAt != nil }

// At is where the tenant lives once the move has come to its end: at the source, or at the target.
func (m Move) At(target bool) Placement {
	p := Placement{Tenant: m.Tenant, Slug: m.Slug, State: StateMoving, Model: m.Source.Model, Home: m.Source.Home, Epoch: m.Epoch}
	if target {
		p.Model, p.Home, p.Epoch = m.Target.Model, m.Target.Home, m.Epoch+1
	}
	return p
}

// MoveRequest is a wish to move a tenant.
type MoveRequest struct {
	Tenant  tenant.ID
	Model   Model
	Cluster string // "": the one where the tenant lives
	MoveOptions
	// Limit is how many moves may be copying, cutting over or being taken away on each of the two clusters, this one included.
	// Default: 4. Those that wait for the end of their rollback window do not count.
	Limit int
	// OfRows and OfBytes are Move's.
	OfRows, OfBytes int64
	// DryRun decides, and records nothing. The returned move has no ID.
	DryRun bool
}

const defaultMoveLimit = 4

const moveColumns = `
id::text, tenant, slug, phase, source_model, source_cluster, source_database, source_schema,
target_model, target_cluster, target_database, target_schema, epoch, offline, auto, max_pause, max_wal, max_rate, actor, coalesce(asked, ''),
coalesce(owned_until > clock_timestamp(), false), owned_since, forward_slot, reverse_slot,
coalesce(start_lsn::text, ''), coalesce(start_xid::text::numeric, 0)::int8, coalesce(reverse_lsn::text, ''), no_rollback,
coalesce(pause, '0'), rows, bytes, of_rows, of_bytes, changes, attempts, error, started_at, phase_at, committed_at, ended_at`

func (c *Catalog) moves(ctx context.Context, q querier, query string, args ...any) ([]Move, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Move, err error) {
		var id string
		var since *time.Time
		var xid int64
		if err := row.Scan(&m.ID, &id, &m.Slug, &m.Phase,
			&m.Source.Model, &m.Source.Home.Cluster, &m.Source.Home.Database, &m.Source.Home.Schema,
			&m.Target.Model, &m.Target.Home.Cluster, &m.Target.Home.Database, &m.Target.Home.Schema,
			&m.Epoch, &m.Offline, &m.Auto, &m.MaxPause, &m.MaxWAL, &m.MaxRate, &m.Actor, &m.Asked, &m.Driven, &since, &m.ForwardSlot, &m.ReverseSlot,
			&m.StartLSN, &xid, &m.ReverseLSN, &m.NoRollback, &m.Pause, &m.Rows, &m.Bytes, &m.OfRows, &m.OfBytes, &m.Changes,
			&m.Attempts, &m.Error, &m.StartedAt, &m.PhaseAt, &m.CommittedAt, &m.EndedAt); err != nil {
			return m, err
		}
		if since != nil {
			m.OwnedSince = *since
		}
		m.StartXID = uint64(xid)
		m.Tenant, err = c.parseID(id)
		return m, err
	})
}

func (c *Catalog) oneMove(ctx context.Context, q querier, query string, args ...any) (Move, error) {
	found, err := c.moves(ctx, q, query, args...)
	if err == nil && len(found) == 0 {
		err = ErrNoMove
	}
	if err != nil {
		return Move{}, err
	}
	return found[0], nil
}

const moveByID = `select ` + moveColumns + ` from landlord.moves where id = $1`

// Move returns a move, or [ErrNoMove].
func (c *Catalog) Move(ctx context.Context, id string) (m Move, err error) {
	err = c.read(ctx, "read the move", func(ctx context.Context, q querier) error {
		m, err = c.oneMove(ctx, q, moveByID, id)
		return err
	})
	return m, err
}

// ActiveMove returns the move of a tenant that is not over, or [ErrNoMove].
func (c *Catalog) ActiveMove(ctx context.Context, id tenant.ID) (m Move, err error) {
	const query = `select ` + moveColumns + ` from landlord.moves where tenant = $1 and ended_at is null`
	err = c.read(ctx, "read the tenant's move", func(ctx context.Context, q querier) error {
		m, err = c.oneMove(ctx, q, query, id.String())
		return err
	})
	return m, err
}

// MoveFilter chooses moves. A zero field chooses all.
type MoveFilter struct {
	Tenant  tenant.ID
	Cluster string // the source's or the target's
	Active  bool   // not over
	Limit   int
}

// Moves returns the chosen moves, the last one first.
func (c *Catalog) Moves(ctx context.Context, f MoveFilter) (found []Move, err error) {
	const query = `
select ` + moveColumns + ` from landlord.moves
where ($1 = '' or tenant = $1) and ($2 = '' or $2 in (source_cluster, target_cluster)) and (not $3 or ended_at is null)
order by started_at desc, id limit nullif($4, 0)`
	err = c.read(ctx, "list moves", func(ctx context.Context, q querier) error {
		found, err = c.moves(ctx, q, query, f.Tenant.String(), f.Cluster, f.Active, f.Limit)
		return err
	})
	return found, err
}

// BeginMove decides where the tenant goes and records the move, in one transaction under the placement lock: phase planned, and the
// tenant's state moving. It makes nothing on any cluster. The target keeps a place for the tenant, and so does the source, until the
// move is over.
//
// A tenant that is not active is [ErrState]; too many moves are [ErrMoveLimit]; a target that cannot take it is [ErrNoCapacity].
func (c *Catalog) BeginMove(ctx context.Context, r MoveRequest) (m Move, err error) {
	r.MaxPause, r.MaxWAL = cmp.Or(r.MaxPause, DefaultMaxPause), cmp.Or(r.MaxWAL, DefaultMaxWAL)
	r.Limit = cmp.Or(r.Limit, defaultMoveLimit)
	if err := checkMaxRate(r.MaxRate); err != nil {
		return m, fmt.Errorf("begin a move: %w", err)
	}
	const insert = `
insert into landlord.moves (id, tenant, slug, source_model, source_cluster, source_database, source_schema,
    target_model, target_cluster, target_database, target_schema, epoch, offline, auto, max_pause, max_wal, max_rate, actor, of_rows,
    of_bytes)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) returning ` + moveColumns
	err = c.change(ctx, "begin a move", func(ctx context.Context, tx pgx.Tx) error {
		t, err := c.oneTenant(ctx, tx, Filter{ID: r.Tenant})
		if err != nil {
			return err
		}
		id := uuid.NewString()
		m, err = c.planMove(ctx, tx, r, t, id)
		if err != nil {
			return err
		}
		if t.State != StateActive {
			return &StateError{Tenant: t.ID, Slug: t.Slug, Have: t.State, Why: "only an active tenant can be moved" + whyNot[t.State]}
		}
		if r.DryRun {
			return nil
		}
		if _, err := tx.Exec(ctx, `update landlord.tenants set state = 'moving' where id = $1`, t.ID.String()); err != nil {
			return err
		}
		s, to := m.Source, m.Target
		m, err = c.oneMove(ctx, tx, insert, id, t.ID.String(), t.Slug, s.Model, s.Home.Cluster, s.Home.Database, s.Home.Schema,
			to.Model, to.Home.Cluster, to.Home.Database, to.Home.Schema, t.Epoch, r.Offline, r.Auto, r.MaxPause, r.MaxWAL, r.MaxRate,
			c.cfg.Actor, r.OfRows, r.OfBytes)
		if err != nil {
			return err
		}
		return c.log(ctx, tx, LogEntry{
			Kind: KindState, Tenant: t.ID, Slug: t.Slug, Cluster: t.Home.Cluster, Epoch: t.Epoch,
			Before: string(t.State), After: string(StateMoving),
		})
	})
	return m, err
}

// whyNot says what to do about a tenant that cannot be moved in its state.
var whyNot = map[State]string{
	StateMoving:    ": landlord move status shows how far its move is",
	StateSuspended: ": landlord tenant resume opens it",
}

// planMove chooses the target.
func (c *Catalog) planMove(ctx context.Context, tx pgx.Tx, r MoveRequest, t Tenant, id string) (m Move, err error) {
	m = Move{
		Tenant: t.ID, Slug: t.Slug, Phase: MovePlanned, Source: Place{Model: t.Model, Home: t.Home}, Epoch: t.Epoch,
		MoveOptions: r.MoveOptions, OfRows: r.OfRows, OfBytes: r.OfBytes, Actor: c.cfg.Actor,
	}
	if _, err := ParseModel(string(r.Model)); err != nil {
		return m, err
	}
	name := cmp.Or(r.Cluster, t.Home.Cluster)
	to, err := cluster(ctx, tx, name)
	if err != nil {
		return m, err
	}
	if r.Model == t.Model && name == t.Home.Cluster {
		return m, fmt.Errorf("tenant %s lives at %s as %s already: name another model or cluster", t.Slug, t.Home, t.Model)
	}
	if name != t.Home.Cluster {
		all, err := usages(ctx, tx)
		if err != nil {
			return m, err
		}
		if to, err = Choose(Request{ID: t.ID, Slug: t.Slug, Model: r.Model, Cluster: name}, all); err != nil {
			return m, err
		}
	}
	m.Target = Place{Model: r.Model, Home: NewHome(r.Model, to, moveHomeName(c.settings.Load().Installation, t.ID, id))}
	for _, name := range []string{m.Source.Home.Cluster, m.Target.Home.Cluster} {
		const busy = `
select count(*) from landlord.moves where ended_at is null and phase <> 'reversing' and $1 in (source_cluster, target_cluster)`
		var n int
		if err := tx.QueryRow(ctx, busy, name).Scan(&n); err != nil {
			return m, err
		}
		if n >= r.Limit {
			return m, fmt.Errorf("cluster %s takes part in %d: %w", name, n, ErrMoveLimit)
		}
	}
	return m, nil
}

// moveHomeName is the name of the schema or database that a move makes: that of [HomeName], and a part of the move's id. So a move
// never meets what an earlier one has left, nor, where two clusters are one server, the tenant's present home.
func moveHomeName(installation string, id tenant.ID, move string) string {
	return HomeName(installation, id) + "_" + move[:8]
}

// IsHomeName tells whether name is one that landlord gives to a schema or database of the tenant.
func IsHomeName(name, installation string, id tenant.ID) bool {
	own := HomeName(installation, id)
	return name == own || strings.HasPrefix(name, own+"_")
}
