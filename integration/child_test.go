package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// childVariable makes this test binary a service of its own: a router on the catalog that the variable's JSON names.
const childVariable = "LANDLORD_TEST_CHILD"

type childConfig struct {
	CatalogDSN, Keys, Tenant string
}

// childAnswer is one line that the child prints.
type childAnswer struct {
	Changed string // a tenant whose placement changed, told by the watch
	Rows    int64  // customers that the tenant has
	Where   string // database and search_path that the statement ran in
	Error   string // the typed error's name
}

// runChild answers every line of stdin with what the tenant sees, and reports what the watch tells.
func runChild(ctx context.Context) error {
	var cfg childConfig
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &cfg); err != nil {
		return err
	}
	catalog, err := placement.Open(ctx, placement.Config{DSN: cfg.CatalogDSN})
	if err != nil {
		return err
	}
	keys, err := isolation.ParseKeyring(cfg.Keys)
	if err != nil {
		return err
	}
	r, err := router.New(router.Config{Catalog: catalog, Keys: keys})
	if err != nil {
		return err
	}
	id, err := tenant.UUID.Parse(cfg.Tenant)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	go r.Run(ctx)                            // until the process ends
	go catalog.Watch(ctx, placement.Watcher{ // until the process ends
		OnChange: func(id tenant.ID) { _ = out.Encode(childAnswer{Changed: id.String()}) },
		OnReset:  func() { _ = out.Encode(childAnswer{Changed: "all"}) },
	})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var a childAnswer
		const q = `select count(*), current_database() || ' ' || current_setting('search_path') from customers`
		err := r.Tenant(id).QueryRow(ctx, q).Scan(&a.Rows, &a.Where)
		switch {
		case errors.Is(err, router.ErrNotHere):
			a.Error = "not here"
		case errors.Is(err, router.ErrSuspended):
			a.Error = "suspended"
		case errors.Is(err, router.ErrCatalogDown):
			a.Error = "catalog down"
		case err != nil:
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

// child is a service in a process of its own.
type child struct {
	t     *testing.T
	ask   *json.Encoder
	lines chan childAnswer
}

func startChild(t *testing.T, h *testhouse.House, catalogDSN string, id tenant.ID) *child {
	t.Helper()
	cfg, err := json.Marshal(childConfig{CatalogDSN: catalogDSN, Keys: h.Keys.String(), Tenant: id.String()})
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVariable+"="+string(cfg))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{t: t, ask: json.NewEncoder(in), lines: make(chan childAnswer, 100)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.lines)
		for dec := json.NewDecoder(out); ; {
			var a childAnswer
			if dec.Decode(&a) != nil {
				return
			}
			c.lines <- a
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	return c
}

// next returns the next line that fits, or fails when the test's time is over.
func (c *child) next(fits func(childAnswer) bool) childAnswer {
	c.t.Helper()
	for {
		select {
		case a, ok := <-c.lines:
			require.True(c.t, ok, "the child has ended")
			if fits(a) {
				return a
			}
		case <-c.t.Context().Done():
			require.Fail(c.t, "the child does not answer")
		}
	}
}

// changed waits until the child's watch has told of id, or of all.
func (c *child) changed(id string) {
	c.t.Helper()
	c.next(func(a childAnswer) bool { return a.Changed == id })
}

// query lets the child ask for the tenant's rows.
func (c *child) query() childAnswer {
	c.t.Helper()
	require.NoError(c.t, c.ask.Encode("query"))
	return c.next(func(a childAnswer) bool { return a.Changed == "" })
}
