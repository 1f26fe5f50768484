package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// window is a time of the day, in the machine's time zone, that may reach over midnight. It is a flag's value.
type window struct {
	set      bool
	from, to time.Duration // since midnight
}

// Set reads a window such as 22:00-04:00.
func (w *window) Set(s string) error {
	from, to, ok := strings.Cut(s, "-")
	start, err := time.Parse("15:04", strings.TrimSpace(from))
	end, endErr := time.Parse("15:04", strings.TrimSpace(to))
	if err = errors.Join(err, endErr); err != nil || !ok || start.Equal(end) {
		return errors.New("write it as 22:00-04:00")
	}
	clock := func(t time.Time) time.Duration {
		return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	*w = window{true, clock(start), clock(end)}
	return nil
}

func (w *window) String() string {
	if !w.set {
		return ""
	}
	day := time.Time{}
	return day.Add(w.from).Format("15:04") + "-" + day.Add(w.to).Format("15:04")
}

// Type names the value in help.
func (w *window) Type() string { return "window" }

// wait is how long it is from now to the window; 0: it is open. Hours are those on the clock, also where it is put forward or back.
func (w *window) wait(now time.Time) time.Duration {
	on := func(day time.Time, at time.Duration) time.Time {
		return time.Date(day.Year(), day.Month(), day.Day(), int(at/time.Hour), int(at/time.Minute)%60, 0, 0, now.Location())
	}
	for _, days := range []int{-1, 0, 1} {
		day := now.AddDate(0, 0, days)
		from, to := on(day, w.from), on(day, w.to)
		if w.to < w.from {
			to = on(day.AddDate(0, 0, 1), w.to)
		}
		if now.Before(to) {
			return max(0, from.Sub(now))
		}
	}
	return 0
}

// inWindow keeps a move's homes in step until the window opens, and then asks for the cutover. It drives the move to its end, or when
// it is told to wait for the cutover only, until that is done. Where another process drives it, it only asks.
func (m *mover) inWindow(ctx context.Context, mv placement.Move, w window, wait bool) (after placement.Move, err error) {
	work, stop := context.WithCancel(ctx)
	defer stop()
	var asking sync.WaitGroup
	var askErr error
	var cut bool // the asker has ended the work, because the cutover is done
	asking.Go(func() {
		if askErr = m.askInWindow(work, mv.ID, w); askErr != nil || !wait {
			return
		}
		if _, cut, askErr = m.await(work, mv.ID, goalCutover); cut {
			stop()
		}
	})
	_, err = m.drive(work, mv.ID, move.Stay)
	elsewhere := errors.Is(err, placement.ErrMoveClaimed)
	if !elsewhere {
		stop()
	}
	asking.Wait()
	switch {
	case cut:
		err = nil
	case elsewhere:
		err = askErr
	}
	after, readErr := m.house.catalog.Move(context.WithoutCancel(ctx), mv.ID)
	return after, errors.Join(err, readErr)
}

// askInWindow asks for the cutover when the move is ready for it and the window is open.
func (m *mover) askInWindow(ctx context.Context, id string, w window) error {
	told := false
	for {
		mv, err := m.house.catalog.Move(ctx, id)
		if err != nil {
			return err
		}
		left := w.wait(time.Now())
		switch {
		case mv.Over():
			return fmt.Errorf("the move of tenant %s has ended: it is %s", mv.Slug, mv.Phase)
		case mv.CommittedAt != nil:
			return nil
		case mv.Phase == move.Verified && left == 0:
			_, err := m.house.catalog.AskMove(ctx, id, placement.AskCutover)
			return err
		case mv.Phase == move.Verified && !told:
			told = true
			m.progress("tenant %s is ready; the cutover waits for %s", mv.Slug, w.String())
		}
		if err := pause(ctx, min(max(left, time.Second), time.Minute)); err != nil {
			return err
		}
	}
}
