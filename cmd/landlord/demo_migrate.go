package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// demoColumn is the demo's migration. What the application does not ask for, it does not notice.
const demoColumn = `-- +goose Up
alter table customers add column demo_note text;

-- +goose Down
alter table customers drop column demo_note;
`

// demoMigration is what came of one migration of all homes while their tenants were at work.
type demoMigration struct {
	File      string  `json:"file"`
	Homes     int     `json:"homes"`    // that have it now
	Migrated  int     `json:"migrated"` // by this run; an earlier demo may have left them with it
	MS        float64 `json:"ms"`
	Calls     int     `json:"calls"` // of the tenants, meanwhile
	Failed    int     `json:"failed"`
	LongestMS float64 `json:"longest_ms"` // of these calls
	CalmMS    float64 `json:"calm_ms"`    // the longest one just before
	Error     string  `json:"error,omitempty"`
}

// demoMigrate brings a new column to all homes while the clients of every tenant go on.
func (a *app) demoMigrate(ctx context.Context, r *router.Router, tenants []placement.Placement, folder string) (m demoMigration, err error) {
	if m.File, err = demoFile(folder); err != nil {
		return m, err
	}
	a.progress("%s adds a column to every home, while all of them work", m.File)
	const calm = time.Second
	crowd := &demoCrowd{stop: make(chan struct{})}
	crowd.start(ctx, r, tenants)
	defer func() { err = errors.Join(err, crowd.end()) }()
	select {
	case <-ctx.Done():
		return m, ctx.Err()
	case <-time.After(calm):
	}
	m.CalmMS = milliseconds(crowd.take().longest)
	err = a.withFleet(ctx, "", true, func(f *fleet.Fleet, _ *placement.Catalog) error {
		began := time.Now()
		s, err := f.Up(ctx, fleet.Options{})
		m.MS = milliseconds(time.Since(began))
		if err != nil {
			return err
		}
		m.Migrated = s.Counts[placement.TargetVerified]
		plan, err := f.Plan(ctx, fleet.Options{})
		m.Homes = plan.UpToDate
		if err == nil && len(plan.Targets) > 0 {
			err = fmt.Errorf("%d homes do not have %s", len(plan.Targets), m.File)
		}
		return err
	})
	met := crowd.take()
	m.Calls, m.Failed, m.LongestMS = met.calls, met.failed, milliseconds(met.longest)
	if met.err != nil {
		m.Error = met.err.Error()
	}
	return m, err
}

// demoFile writes the demo's migration behind those of the folder, unless an earlier demo has, and returns its name.
func demoFile(folder string) (string, error) {
	const suffix = "_demo_note.sql"
	left, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
	if err != nil {
		return "", err
	}
	if len(left) > 0 {
		return filepath.Base(left[0]), nil
	}
	version, err := migrate.NextVersion(os.DirFS(folder), time.Now())
	if err != nil {
		return "", err
	}
	return version + suffix, keepFile(filepath.Join(folder, version+suffix), demoColumn)
}

// demoCrowd is the clients of all tenants at work.
type demoCrowd struct {
	stop  chan struct{}
	group errgroup.Group

	mu  sync.Mutex // guards met
	met demoMet
}

// demoMet is what clients have met with.
type demoMet struct {
	calls, failed int
	longest       time.Duration
	err           error // the first
}

func (c *demoCrowd) start(ctx context.Context, r *router.Router, tenants []placement.Placement) {
	for _, p := range tenants {
		shop := demoShop{r.Tenant(p.Tenant)}
		for client := range demoClients {
			c.group.Go(func() error {
				for {
					select {
					case <-c.stop:
						return nil
					case <-ctx.Done():
						return nil
					default:
					}
					email := fmt.Sprintf("client%d-%d@example.com", client, rand.N(50))
					c.call(ctx, func() error { return shop.order(ctx, email) })
					c.call(ctx, func() error { _, err := shop.revenue(ctx, email); return err })
				}
			})
		}
	}
}

// call makes one call and takes down what came of it.
func (c *demoCrowd) call(ctx context.Context, fn func() error) {
	began := time.Now()
	err := fn()
	took := time.Since(began)
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met.calls++
	c.met.longest = max(c.met.longest, took)
	if err != nil {
		c.met.failed++
		if c.met.err == nil {
			c.met.err = err
		}
	}
}

// take returns what was met since the last take.
func (c *demoCrowd) take() demoMet {
	c.mu.Lock()
	defer c.mu.Unlock()
	met := c.met
	c.met = demoMet{}
	return met
}

// end sends everybody home, when their calls have been answered.
func (c *demoCrowd) end() error {
	close(c.stop)
	return c.group.Wait()
}

func (m demoMigration) write(w io.Writer) {
	if m.Migrated == 0 {
		fmt.Fprintf(w, "\nAll %d homes have %s already, from an earlier demo.\n", m.Homes, m.File)
		return
	}
	failed := "none failed"
	if m.Failed > 0 {
		failed = fmt.Sprintf("%d FAILED, the first with: %s", m.Failed, m.Error)
	}
	fmt.Fprintf(w, "\nA migration of all %d homes beside this traffic, %s, took %.1f s.\n", m.Homes, m.File, m.MS/1000)
	fmt.Fprintf(w, "  %d calls of their tenants meanwhile: %s, the longest took %.0f ms (%.0f ms just before).\n",
		m.Calls, failed, m.LongestMS, m.CalmMS)
}
