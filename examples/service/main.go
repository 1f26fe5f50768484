// Command service is a small multi-tenant HTTP service on landlord: projects and their tasks, for every customer their own. Which
// of the three models a customer lives in, and on which server, stands nowhere in it.
//
// It is made to be copied. api is the service; migrations are its tables; this file puts them together and ends them in order.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/examples/service/api"
	"github.com/landlord-go/landlord/examples/service/migrations"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// How long requests that are being answered may go on after the service was told to end.
const drain = 20 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if err := run(ctx, log); err != nil {
		log.Error("service ends", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and returns once the last request is answered and every connection is closed.
func run(ctx context.Context, log *slog.Logger) error {
	catalog, r, err := open(ctx, log)
	if err != nil {
		return err
	}
	defer catalog.Close()
	defer r.Close()

	handler, err := api.New(api.Config{
		Router:  r,
		Tenants: catalog,
		Domain:  cmp.Or(os.Getenv("SERVICE_DOMAIN"), "localhost"),
		Header:  os.Getenv("SERVICE_TENANT_HEADER"),
		Logger:  log,
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("SERVICE_ADDR"), "localhost:8080"))
	if err != nil {
		return err
	}
	log.Info("serving", "address", listener.Addr().String())

	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	routing, stopRouting := context.WithCancel(context.WithoutCancel(ctx)) // it goes on while the last requests are answered
	defer stopRouting()
	group, serving := errgroup.WithContext(ctx)
	group.Go(func() error { return ended(r.Run(routing), context.Canceled) })
	group.Go(func() error { return ended(server.Serve(listener), http.ErrServerClosed) })
	<-serving.Done()
	log.Info("ending: no new requests")
	last, cancel := context.WithTimeout(routing, drain)
	defer cancel()
	err = server.Shutdown(last)
	stopRouting()
	return errors.Join(err, group.Wait())
}

// open connects to the catalog, and makes the router with the version of the tables that this program was written for.
func open(ctx context.Context, log *slog.Logger) (*placement.Catalog, *router.Router, error) {
	dsn, err := placement.Ref(os.Getenv("LANDLORD_CATALOG")).Resolve()
	if err != nil {
		return nil, nil, fmt.Errorf("LANDLORD_CATALOG, which refers to the catalog's connection string: %w", err)
	}
	secret, err := placement.Ref(os.Getenv("LANDLORD_KEYS")).Resolve()
	if err != nil {
		return nil, nil, fmt.Errorf("LANDLORD_KEYS, which refers to the seal keys: %w", err)
	}
	keys, err := isolation.ParseKeyring(secret)
	if err != nil {
		return nil, nil, err
	}
	set, err := migrate.Load(migrations.Files)
	if err != nil {
		return nil, nil, err
	}
	versions := set.Versions()
	catalog, err := placement.Open(ctx, placement.Config{DSN: dsn, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	r, err := router.New(router.Config{
		Catalog: catalog, Keys: keys, AppName: "service", Logger: log,
		SchemaVersion: versions[len(versions)-1],
		SchemaWait:    2 * time.Second, // a home that is being migrated just now is worth a moment
	})
	if err != nil {
		catalog.Close()
		return nil, nil, err
	}
	return catalog, r, nil
}

// ended is nil when err only says that something was told to end.
func ended(err, told error) error {
	if errors.Is(err, told) {
		return nil
	}
	return err
}
