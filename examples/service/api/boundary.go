package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// boundary finds a request's tenant, once, and puts it on the request's context. Behind it nothing asks the request again.
//
// It tells who is meant, not who may: a real service also checks here that the person who is logged in belongs to that tenant.
type boundary struct {
	service *service
	tenants Directory
	suffix  string // ".example.com"
	header  string
	known   *lru.Cache[tenant.Slug, known]
}

// known is a tenant that was found before.
type known struct {
	id    tenant.ID
	until time.Time
}

const (
	mostKnown = 10_000
	knownFor  = time.Minute // after which a slug that was given to another tenant is known as that one's
)

func newBoundary(cfg Config, s *service) (*boundary, error) {
	cache, err := lru.New[tenant.Slug, known](mostKnown)
	if err != nil {
		return nil, err
	}
	return &boundary{service: s, tenants: cfg.Tenants, suffix: "." + strings.ToLower(cfg.Domain), header: cfg.Header, known: cache}, nil
}

// wrap lets next see requests that have a tenant. All others get the 404 that everything unknown gets.
func (b *boundary) wrap(next http.Handler) http.Handler {
	return b.service.handle(func(w http.ResponseWriter, r *http.Request) error {
		slug, err := b.slug(r)
		if err != nil {
			return errNotFound
		}
		id, err := b.tenant(r.Context(), slug)
		if err != nil {
			return err
		}
		ctx, err := tenant.NewContext(r.Context(), id)
		if err != nil {
			return err
		}
		next.ServeHTTP(w, r.WithContext(ctx))
		return nil
	})
}

// tenant is whose slug it is.
func (b *boundary) tenant(ctx context.Context, slug tenant.Slug) (tenant.ID, error) {
	if k, ok := b.known.Get(slug); ok && time.Now().Before(k.until) {
		return k.id, nil
	}
	found, err := b.tenants.TenantBySlug(ctx, slug)
	if errors.Is(err, placement.ErrUnknownTenant) {
		err = errNotFound
	}
	if err != nil {
		return tenant.ID{}, err
	}
	b.known.Add(slug, known{found.ID, time.Now().Add(knownFor)})
	return found.ID, nil
}

// slug is the tenant that a request names: by the gateway's header where there is one, else by its host.
func (b *boundary) slug(r *http.Request) (tenant.Slug, error) {
	if b.header != "" {
		return tenant.ParseSlug(r.Header.Get(b.header))
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	name, ok := strings.CutSuffix(strings.ToLower(host), b.suffix)
	if !ok {
		return "", errNotFound
	}
	return tenant.ParseSlug(name)
}
