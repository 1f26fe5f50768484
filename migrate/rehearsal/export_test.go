package rehearsal

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/lint"
)

var errSeen = errors.New("seen")

// Peek builds a home from base in a scratch database and watches each of files there, one after the other, undoing each.
func Peek(ctx context.Context, cfg Config, cluster string, files map[string]migrate.Migration) (seen map[string][]lint.Traced, failed map[string]error, err error) {
	seen, failed = make(map[string][]lint.Traced), make(map[string]error)
	m, err := newMaker(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	err = m.with(ctx, cluster, func(s *scratch) error {
		if err := isolation.CreateSchema(ctx, s.operator, first.schema, first.tenant); err != nil {
			return err
		}
		if err := cfg.Set.Build(ctx, s.migrator, first.schema, first.tenant); err != nil {
			return err
		}
		to, by := migrate.Target{Scope: migrate.ScopeTenant, Schema: first.schema, Tenant: first.tenant}, migrate.Attempt{Run: uuid.NewString(), Lease: 1}
		for name, m := range files {
			p := &probe{conn: s.migrator, schema: to.Schema, backfill: m.Phase == migrate.PhaseBackfill}
			err := m.Watch(ctx, s.migrator, to, by, limits, func(next int, text string) error {
				if next == 0 {
					if err := p.begin(ctx); err != nil {
						return err
					}
				} else {
					saw, err := p.look(ctx)
					if err != nil {
						return err
					}
					saw.Statement = next - 1
					seen[name] = slices.Concat(seen[name], []lint.Traced{saw})
				}
				if text == "" {
					return errSeen
				}
				return p.before(ctx, text)
			})
			if !errors.Is(err, errSeen) {
				failed[name] = err
			}
		}
		return nil
	})
	return seen, failed, err
}
