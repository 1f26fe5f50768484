// Package api is the service: an HTTP API of projects and tasks.
//
// Every request has one tenant, found at the boundary and carried by its context. No handler names a tenant and no statement
// filters by one: what belongs to somebody else is not there, so that it is answered like what never was, by the same 404.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// Config of the API. All but Header and Logger are required.
type Config struct {
	Router  *router.Router
	Tenants Directory
	Domain  string       // the tenant acme is at acme.<Domain>
	Header  string       // names the tenant instead, where a gateway sets it and strips it from what comes from outside; empty: none
	Logger  *slog.Logger // nil: none
}

// Directory finds tenants by their slug. [placement.Catalog] does.
type Directory interface {
	TenantBySlug(ctx context.Context, slug tenant.Slug) (placement.Tenant, error)
}

// service is what the handlers share.
type service struct {
	router *router.Router
	log    *slog.Logger
}

// New returns the handler of the API.
func New(cfg Config) (http.Handler, error) {
	var errs []error
	if cfg.Router == nil {
		errs = append(errs, errors.New("Router is missing"))
	}
	if cfg.Tenants == nil {
		errs = append(errs, errors.New("Tenants is missing"))
	}
	if cfg.Domain == "" {
		errs = append(errs, errors.New("Domain is missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure the API: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &service{router: cfg.Router, log: cfg.Logger}

	own := http.NewServeMux() // what a tenant has
	own.HandleFunc("GET /projects", s.handle(s.listProjects))
	own.HandleFunc("POST /projects", s.handle(s.addProject))
	own.HandleFunc("GET /projects/{id}", s.handle(s.showProject))
	own.HandleFunc("PATCH /projects/{id}", s.handle(s.renameProject))
	own.HandleFunc("DELETE /projects/{id}", s.handle(s.deleteProject))
	own.HandleFunc("GET /projects/{id}/tasks", s.handle(s.listTasks))
	own.HandleFunc("POST /projects/{id}/tasks", s.handle(s.addTask))
	own.HandleFunc("GET /tasks/{id}", s.handle(s.showTask))
	own.HandleFunc("PATCH /tasks/{id}", s.handle(s.changeTask))
	own.HandleFunc("DELETE /tasks/{id}", s.handle(s.deleteTask))
	own.HandleFunc("GET /search", s.handle(s.search))
	own.HandleFunc("GET /export.csv", s.handle(s.export))
	own.HandleFunc("/", s.handle(func(http.ResponseWriter, *http.Request) error { return errNotFound }))

	door, err := newBoundary(cfg, s)
	if err != nil {
		return nil, err
	}
	all := http.NewServeMux()
	all.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	all.HandleFunc("GET /readyz", s.ready)
	all.Handle("/", door.wrap(s.logged(own)))
	return all, nil
}

func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.router.Ready(ctx); err != nil {
		s.log.WarnContext(ctx, "not ready", "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// What a handler returns instead of an answer.
var (
	errNotFound = errors.New("not found")
	errConflict = errors.New("it exists already")
)

// invalid is a request that cannot be understood; its text is told to whoever sent it.
type invalid string

func (e invalid) Error() string { return string(e) }

// handle answers with the error that the handler returns. A handler that has begun to answer returns none.
func (s *service) handle(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// fail turns an error into an answer. What PostgreSQL or the router said is logged and not told.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusInternalServerError, "internal error"
	var bad invalid
	var moving *router.MovingError
	switch {
	case errors.Is(err, errNotFound), errors.Is(err, pgx.ErrNoRows), isSQL(err, "23503"): // what it belongs to is not there
		status, text = http.StatusNotFound, errNotFound.Error()
	case errors.Is(err, errConflict), isSQL(err, "23505"):
		status, text = http.StatusConflict, errConflict.Error()
	case errors.As(err, &bad):
		status, text = http.StatusUnprocessableEntity, bad.Error()
	case errors.Is(err, router.ErrSuspended):
		status, text = http.StatusForbidden, "suspended"
	case errors.As(err, &moving):
		w.Header().Set("Retry-After", fmt.Sprint(max(1, int(moving.RetryAfter.Seconds()))))
		status, text = http.StatusServiceUnavailable, "try again"
	case errors.Is(err, router.ErrExhausted), errors.Is(err, router.ErrHomeDown), errors.Is(err, router.ErrCatalogDown),
		errors.Is(err, router.ErrBehind), errors.Is(err, router.ErrOutdated), errors.Is(err, router.ErrProvisioning):
		w.Header().Set("Retry-After", "1")
		status, text = http.StatusServiceUnavailable, "try again"
	case r.Context().Err() != nil:
		return // nobody is there to be answered
	}
	if status >= http.StatusInternalServerError {
		s.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	answer(w, status, map[string]string{"error": text})
}

func isSQL(err error, code string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == code
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that left has no use for the error
}

// mostBytes is how much of a request's body is read.
const mostBytes = 64 << 10

func decode(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return invalid("the body is not the JSON that is expected here")
	}
	return nil
}

// pathID is the id in the path. One that is none names nothing.
func pathID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return id, errNotFound
	}
	return id, nil
}

// logged writes a line for every request of a tenant.
func (s *service) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		id, _ := tenant.FromContext(r.Context())
		s.log.InfoContext(r.Context(), "request", "tenant", id.String(), "pattern", r.Pattern, "status", seen.status,
			"seconds", time.Since(begin).Seconds())
	})
}

// statusWriter remembers the status that was answered with.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
