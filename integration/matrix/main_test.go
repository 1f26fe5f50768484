//go:build landlord_faults

package matrix_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
)

// moverVariable makes this test binary a process that drives the move which the variable's JSON names.
const moverVariable = "LANDLORD_MATRIX_MOVER"

type moverConfig struct {
	CatalogDSN, Keys, Move string
	Mode                   isolation.Mode
	Goal                   move.Goal
}

func TestMain(m *testing.M) {
	if os.Getenv(moverVariable) != "" {
		go func() { // the tests have ended, perhaps without a word
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(2)
		}()
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := runMover(ctx)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pgtest.Main(m)
}

// runMover drives a move to its goal. It waits for whoever else drives it, and tries a cutover again that a busy machine has kept from
// being in time.
func runMover(ctx context.Context) error {
	var cfg moverConfig
	if err := json.Unmarshal([]byte(os.Getenv(moverVariable)), &cfg); err != nil {
		return err
	}
	catalog, err := placement.Open(ctx, placement.Config{DSN: cfg.CatalogDSN, Actor: "matrix"})
	if err != nil {
		return err
	}
	defer catalog.Close()
	keys, err := isolation.ParseKeyring(cfg.Keys)
	if err != nil {
		return err
	}
	set, err := migrate.Load(os.DirFS(testhouse.SampleDir()))
	if err != nil {
		return err
	}
	service, err := onboard.New(onboard.Config{Catalog: catalog, Keys: keys, Builder: set, Mode: cfg.Mode})
	if err != nil {
		return err
	}
	mover, err := move.New(move.Config{Catalog: catalog, Homes: service, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	for {
		_, err := mover.Drive(ctx, cfg.Move, cfg.Goal)
		var claimed *placement.MoveClaimedError
		if _, busy := errors.AsType[*cutover.BusyError](err); busy {
			continue
		}
		if !errors.As(err, &claimed) {
			return err
		}
		select {
		case <-time.After(min(claimed.Left, time.Second) + 50*time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
