package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
)

// beatEvery is how often the catalog is told that this router is alive.
const beatEvery = 5 * time.Second

// instance keeps this router on the catalog's record of what is alive: no migration takes away what it may still read. It is
// on record before the first call touches a home, and until no connection to a home is left.
type instance struct {
	catalog *placement.Catalog
	log     *slog.Logger
	self    placement.Instance
	beating singleflight.Group

	admitted atomic.Bool             // on record, and not refused since
	refused  atomic.Pointer[verdict] // the last one, until a beat is taken again; nil: none
	unheard  bool                    // it was said that beats get no answer; for the one beat under way

	work   sync.WaitGroup // beats under way
	mu     sync.Mutex     // guards what follows
	ever   bool           // there was a beat
	closed bool
}

// verdict is the catalog's word that the application is outdated.
type verdict struct {
	err error
	at  time.Time // when the catalog was asked last
}

func newInstance(cfg Config, id string) *instance {
	return &instance{
		catalog: cfg.Catalog, log: cfg.Logger,
		self: placement.Instance{ID: id, Name: cfg.Instance, SchemaVersion: cfg.SchemaVersion},
	}
}

// maxInstance is how many characters the catalog keeps of an instance's name.
const maxInstance = 200

// defaultInstance names this process.
func defaultInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.180s/%d", host, os.Getpid())
}

// admit lets a call go on once the router is on record, and not while the catalog says that it is outdated.
func (i *instance) admit(ctx context.Context) error {
	if i.admitted.Load() {
		return nil
	}
	if v := i.refused.Load(); v != nil && time.Since(v.at) < beatEvery {
		return v.err
	}
	return i.beat(ctx)
}

// keep says that this router is alive until ctx ends.
func (i *instance) keep(ctx context.Context) {
	for ctx.Err() == nil {
		_ = i.beat(ctx) // says itself what is to be said
		select {
		case <-ctx.Done():
		case <-time.After(beatEvery):
		}
	}
}

// beat says once that this router is alive; callers that want to meanwhile share the answer.
func (i *instance) beat(ctx context.Context) error {
	answered := i.beating.DoChan("", func() (any, error) {
		// Detached from its caller: one that is cut short might be carried out after the router has left. The catalog has a
		// time-out of its own.
		return nil, i.send(context.WithoutCancel(ctx))
	})
	select {
	case res := <-answered:
		return res.Err
	case <-ctx.Done():
		return fmt.Errorf("put the application on record: %w", ctx.Err())
	}
}

func (i *instance) send(ctx context.Context) error {
	if !i.begin() {
		return fmt.Errorf("put the application on record: %w", pools.ErrClosed)
	}
	defer i.work.Done()
	err := i.catalog.Beat(ctx, i.self)
	switch {
	case err == nil:
		i.unheard = false
		i.refused.Store(nil)
		i.admitted.Store(true)
	case errors.Is(err, ErrOutdated):
		i.unheard = false
		i.admitted.Store(false)
		if i.refused.Swap(&verdict{err, time.Now()}) == nil {
			i.log.ErrorContext(ctx, "this release of the application is outdated: its calls are refused", "instance", i.self.Name, "error", err)
		}
	case i.refused.Load() != nil: // and that stands
		err = i.refused.Load().err
		i.refused.Store(&verdict{err, time.Now()})
	case i.admitted.Load() && !i.unheard: // before that, the callers hear of it
		i.unheard = true
		i.log.WarnContext(ctx, "the catalog does not hear that this instance is alive", "instance", i.self.Name, "error", err)
	}
	return err
}

func (i *instance) begin() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return false
	}
	i.ever = true
	i.work.Add(1)
	return true
}

// leave takes this router off the record. Its connections are closed already.
func (i *instance) leave() {
	i.mu.Lock()
	i.closed = true
	ever := i.ever
	i.mu.Unlock()
	i.work.Wait()
	if !ever {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if err := i.catalog.Leave(ctx, i.self.ID); err != nil {
		i.log.Warn("this instance stays on the catalog's record: landlord instance forget takes it off",
			"instance", i.self.Name, "id", i.self.ID, "error", err)
	}
}
