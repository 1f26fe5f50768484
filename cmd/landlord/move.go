package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

func newMoveCmd(a *app) *cobra.Command {
	group := newGroupCmd("move", "Take tenants from one home to another while they are used",
		newMoveStartCmd(a),
		newMoveListCmd(a),
		newMoveStatusCmd(a),
		newMoveWatchCmd(a),
		newMoveVerifyCmd(a),
		newMoveCutoverCmd(a),
		newMoveRollbackCmd(a),
		newMoveCompleteCmd(a),
		newMoveAbortCmd(a),
		newMoveResumeCmd(a),
	)
	group.Long = `Take tenants from one home to another while they are used: from any model to any model, on any cluster.

A move copies the tenant's rows, follows what is written meanwhile, compares both homes, and then cuts over: the
tenant's writers wait for a moment, and go on at the new home. From then on the old home is kept in step, and the
tenant can go back to it, until the move is completed. Until the cutover a move can be aborted.`
	return group
}

// mover is what the commands about moves work with. Close it.
type mover struct {
	*app
	*house
	move   *move.Mover
	screen *moveScreen
}

// mover opens the catalog and what drives moves; a person sees how far they are.
func (a *app) mover(ctx context.Context) (*mover, error) {
	h, err := a.houseWithKeys(ctx)
	if err != nil {
		return nil, err
	}
	m := &mover{app: a, house: h, screen: newMoveScreen(a)}
	m.move, err = move.New(move.Config{Catalog: h.catalog, Homes: h.service, Logger: slog.New(warnings{a.log.Handler()}), Progress: m.screen.see})
	if err != nil {
		h.Close()
		return nil, err
	}
	return m, nil
}

// warnings passes on what is worse than information, which progress shows already, unless somebody wants to debug.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, level) && (level >= slog.LevelWarn || h.Handler.Enabled(ctx, slog.LevelDebug))
}

// moveView is a move as it is printed.
type moveView struct {
	ID          string     `json:"id"`
	Tenant      string     `json:"tenant"`
	State       string     `json:"state"` // its phase
	Source      placeView  `json:"source"`
	Target      placeView  `json:"target"`
	Offline     bool       `json:"offline"`
	Auto        bool       `json:"auto"`
	MaxPauseMS  float64    `json:"max_pause_ms"`
	MaxWAL      int64      `json:"max_wal"`
	MaxRate     int64      `json:"max_rate"` // bytes that are copied in a second; 0: as many as can be
	Asked       string     `json:"asked"`    // of whoever drives it; empty: nothing
	Driven      bool       `json:"driven"`   // a process works at it
	DrivenSince *time.Time `json:"driven_since"`
	PauseMS     float64    `json:"pause_ms"` // of the last cutover or rollback
	Attempts    int        `json:"attempts"` // cutovers and rollbacks that were begun
	Rows        int64      `json:"rows"`     // copied
	Bytes       int64      `json:"bytes"`
	OfRows      int64      `json:"of_rows"` // estimated, to be copied; 0: not known
	OfBytes     int64      `json:"of_bytes"`
	Changes     int64      `json:"changes"` // applied from the stream
	NoRollback  string     `json:"no_rollback"`
	Error       string     `json:"error"`
	StartedAt   time.Time  `json:"started_at"`
	PhaseAt     time.Time  `json:"phase_at"`
	CommittedAt *time.Time `json:"committed_at"`
	EndedAt     *time.Time `json:"ended_at"`
	Live        *moveLive  `json:"live,omitempty"`
	DryRun      bool       `json:"dry_run,omitempty"`

	next string
}

type placeView struct {
	Model string `json:"model"`
	Home  string `json:"home"`
}

func viewMove(m placement.Move) moveView {
	v := moveView{
		ID: m.ID, Tenant: string(m.Slug), State: string(m.Phase),
		Source:  placeView{string(m.Source.Model), m.Source.Home.String()},
		Target:  placeView{string(m.Target.Model), m.Target.Home.String()},
		Offline: m.Offline, Auto: m.Auto, MaxPauseMS: milliseconds(m.MaxPause), MaxWAL: m.MaxWAL, MaxRate: m.MaxRate,
		Asked: string(m.Asked), Driven: m.Driven, PauseMS: milliseconds(m.Pause), Attempts: m.Attempts,
		Rows: m.Rows, Bytes: m.Bytes, OfRows: m.OfRows, OfBytes: m.OfBytes, Changes: m.Changes, NoRollback: m.NoRollback, Error: m.Error,
		StartedAt: m.StartedAt, PhaseAt: m.PhaseAt, CommittedAt: m.CommittedAt, EndedAt: m.EndedAt, next: nextOf(m),
	}
	if !m.OwnedSince.IsZero() {
		v.DrivenSince = &m.OwnedSince
	}
	return v
}

func (v moveView) write(w io.Writer) {
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	row("tenant", "%s", v.Tenant)
	row("move", "%s", v.ID)
	row("state", "%s, since %s", v.State, v.PhaseAt.Local().Format(time.DateTime))
	row("from", "%s as %s", v.Source.Home, v.Source.Model)
	row("to", "%s as %s", v.Target.Home, v.Target.Model)
	switch {
	case v.Driven:
		row("driven", "since %s", v.DrivenSince.Local().Format(time.DateTime))
	case v.EndedAt == nil:
		row("driven", "by nobody: landlord move resume %s", v.Tenant)
	}
	if v.Asked != "" {
		row("asked for", "%s", v.Asked)
	}
	if v.OfRows > 0 && v.CommittedAt == nil && v.EndedAt == nil {
		row("copied", "%d of about %d rows, %s of %s", v.Rows, v.OfRows, bytesText(v.Bytes), bytesText(v.OfBytes))
	} else {
		row("copied", "%d rows, %s", v.Rows, bytesText(v.Bytes))
	}
	if v.MaxRate > 0 && v.CommittedAt == nil && v.EndedAt == nil {
		row("copied at", "%s a second at most", bytesText(v.MaxRate))
	}
	row("changes", "%d applied", v.Changes)
	if v.Live != nil {
		v.Live.write(row)
	}
	if v.CommittedAt != nil || v.Attempts > 0 {
		row("pause", "%.1f ms of at most %.0f ms, %d attempts", v.PauseMS, v.MaxPauseMS, v.Attempts)
	}
	if v.NoRollback != "" {
		row("no way back", "%s", oneLine(v.NoRollback))
	}
	if v.Error != "" {
		row("last error", "%s", oneLine(v.Error))
	}
	if v.next != "" {
		row("next", "%s", v.next)
	}
}

// nextOf says what a person can do about a move that waits for one; empty: it does not.
func nextOf(m placement.Move) string {
	switch {
	case m.Asked != "" || m.Auto && m.CommittedAt == nil:
		return ""
	case m.Phase == move.Verified:
		return fmt.Sprintf("landlord move cutover %s, or abort", m.Slug)
	case m.Phase == move.Reversing && m.NoRollback != "":
		return fmt.Sprintf("landlord move complete %s", m.Slug)
	case m.Phase == move.Reversing:
		return fmt.Sprintf("landlord move complete %s, or rollback", m.Slug)
	}
	return ""
}

// showMove ends a command with a move.
func (m *mover) showMove(mv placement.Move) error {
	m.screen.end()
	v := viewMove(mv)
	return m.show(v, v.write)
}

// last returns the tenant's move, or if there is none that is not over, the last one.
func (h *house) lastMove(ctx context.Context, w whose) (placement.Move, error) {
	t, err := h.tenant(ctx, w)
	if err != nil {
		return placement.Move{}, err
	}
	all, err := h.catalog.Moves(ctx, placement.MoveFilter{Tenant: t.ID, Limit: 1})
	if err != nil {
		return placement.Move{}, err
	}
	if len(all) == 0 {
		return placement.Move{}, fmt.Errorf("tenant %s was never moved: 'landlord move start %[1]s --to MODEL' moves it", t.Slug)
	}
	return all[0], nil
}

// moveCommand makes a command about the move of one tenant.
func moveCommand(a *app, use, short string, run func(context.Context, *mover, placement.Move) error) *cobra.Command {
	var id string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   use + " TENANT",
		Short: short,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := parseWhose(args, id)
			if err != nil {
				return err
			}
			m, err := a.mover(cmd.Context())
			if err != nil {
				return err
			}
			defer m.Close()
			mv, err := m.lastMove(cmd.Context(), w)
			if err != nil {
				return err
			}
			if dryRun {
				v := viewMove(mv)
				v.DryRun = true
				a.progress("dry run: nothing is asked for or done; the move is:")
				return a.show(v, v.write)
			}
			return run(cmd.Context(), m, mv)
		},
	}
	idFlag(cmd, &id)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the move")
	return cmd
}

// endOfMove is the error with which a command ends whose move is over, or nil.
func endOfMove(mv placement.Move, err error) error {
	var aborted *move.AbortedError
	switch {
	case err != nil && !errors.As(err, &aborted):
		return err
	case err != nil || mv.Phase == move.Aborted && mv.Error != "":
		return fmt.Errorf("tenant %s was not moved, and is where it was: %s", mv.Slug, oneLine(mv.Error))
	}
	return nil
}
