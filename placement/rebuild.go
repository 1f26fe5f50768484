package placement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/tenant"
)

// FenceRow is what a home says of a tenant: the row beside its data.
type FenceRow struct {
	Tenant tenant.ID
	Slug   tenant.Slug
	Model  Model
	Home   Home
	Epoch  int64
	State  string // importing, open, fenced, moved or suspended
}

// liveFence lists the fence states in which a home holds the tenant, and what the catalog calls them. In the others the
// tenant is not there yet, or no longer. One that is fenced opens by itself when the attempt to pass the tenant on is overdue.
var liveFence = map[string]State{"open": StateActive, "suspended": StateSuspended, "fenced": StateActive}

// RebuildReport says what Rebuild changed, and what it leaves to a person.
type RebuildReport struct {
	Changes  []RebuildChange
	Problems []RebuildProblem
}

// RebuildChange is one tenant whose placement was corrected. Before is "" for a tenant that the catalog did not know.
type RebuildChange struct {
	Tenant        tenant.ID
	Slug          tenant.Slug
	Before, After string
}

// RebuildProblem is one tenant about which homes and catalog cannot be made to agree.
type RebuildProblem struct {
	Tenant  tenant.ID
	Slug    tenant.Slug
	Problem string
}

// Rebuild makes the catalog agree with the homes, after it was restored from an old backup: of each tenant the live fence
// row with the highest epoch wins; tenants that are missing are added. rows are those of all homes that could be read. It
// removes nobody and never lowers an epoch; such cases it reports. With dryRun it only reports.
func (c *Catalog) Rebuild(ctx context.Context, rows []FenceRow, dryRun bool) (report RebuildReport, err error) {
	err = c.change(ctx, "rebuild catalog", func(ctx context.Context, tx pgx.Tx) error {
		report = RebuildReport{}
		b := rebuild{c: c, tx: tx, report: &report}
		if err := b.run(ctx, rows); err != nil {
			return err
		}
		if dryRun {
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return report, err
}

// errDryRun rolls the transaction back.
var errDryRun = errors.New("dry run")

type rebuild struct {
	c        *Catalog
	tx       pgx.Tx
	report   *RebuildReport
	clusters []Usage
	known    map[tenant.ID]Tenant
	slugs    map[tenant.Slug]tenant.ID
	moving   map[tenant.ID]bool // with a move that is not over
}

func (b *rebuild) run(ctx context.Context, rows []FenceRow) (err error) {
	if b.clusters, err = usages(ctx, b.tx); err != nil {
		return err
	}
	all, err := b.c.tenants(ctx, b.tx, Filter{})
	if err != nil {
		return err
	}
	moves, err := b.c.moves(ctx, b.tx, `select `+moveColumns+` from landlord.moves where ended_at is null`)
	if err != nil {
		return err
	}
	b.moving = map[tenant.ID]bool{}
	for _, m := range moves {
		b.moving[m.Tenant] = true
	}
	b.known, b.slugs = map[tenant.ID]Tenant{}, map[tenant.Slug]tenant.ID{}
	for _, t := range all {
		b.known[t.ID], b.slugs[t.Slug] = t, t.ID
	}
	fences := map[tenant.ID][]FenceRow{}
	for _, f := range rows {
		fences[f.Tenant] = append(fences[f.Tenant], f)
	}
	for _, t := range all {
		if len(fences[t.ID]) == 0 && t.State != StateProvisioning {
			b.problem(t.ID, t.Slug, "no home that was read has a fence row of it; the catalog says %s", t.Home)
		}
	}
	ids := slices.SortedFunc(maps.Keys(fences), func(a, b tenant.ID) int { return strings.Compare(a.String(), b.String()) })
	for _, id := range ids {
		if err := b.tenant(ctx, fences[id]); err != nil {
			return err
		}
	}
	return nil
}

// tenant settles one tenant by its fence rows.
func (b *rebuild) tenant(ctx context.Context, fences []FenceRow) error {
	live := slices.DeleteFunc(slices.Clone(fences), func(f FenceRow) bool { return liveFence[f.State] == "" })
	if len(live) == 0 {
		b.problem(fences[0].Tenant, fences[0].Slug, "no home is open: %s", describe(fences))
		return nil
	}
	slices.SortStableFunc(live, func(x, y FenceRow) int { return cmp.Compare(y.Epoch, x.Epoch) })
	best := live[0]
	if len(live) > 1 {
		b.problem(best.Tenant, best.Slug, "more than one home is open: %s", describe(live))
		if live[1].Epoch == best.Epoch {
			return nil
		}
	}
	want := Tenant{ID: best.Tenant, Slug: best.Slug, State: liveFence[best.State], Model: best.Model, Home: best.Home, Epoch: best.Epoch}
	have, ok := b.known[best.Tenant]
	if why := b.obstacle(want, have); why != "" {
		b.problem(want.ID, want.Slug, "%s", why)
		return nil
	}
	if !ok {
		b.slugs[want.Slug] = want.ID
		b.changed(want, "", want.summary())
		return b.c.insertTenant(ctx, b.tx, want, KindRebuilt)
	}
	want.Slug, want.State = have.Slug, b.keepIntent(have, want.State)
	if want.summary() == have.summary() {
		return nil
	}
	b.changed(want, have.summary(), want.summary())
	return b.update(ctx, have, want)
}

// obstacle says why the catalog cannot follow the homes, or "". have is zero for an unknown tenant.
func (b *rebuild) obstacle(want, have Tenant) string {
	owner, taken := b.slugs[want.Slug]
	if err := want.check(); err != nil {
		return fmt.Sprintf("its fence row makes no sense: %v", err)
	}
	switch {
	case !slices.ContainsFunc(b.clusters, func(u Usage) bool { return u.Name == want.Home.Cluster }):
		return fmt.Sprintf("it lives at %s, and the catalog has no such cluster: add it, then rebuild again", want.Home)
	case have.Epoch > want.Epoch:
		return fmt.Sprintf("the catalog is ahead: epoch %d at %s, the homes know %d at %s", have.Epoch, have.Home, want.Epoch, want.Home)
	case taken && owner != want.ID && have.ID.IsZero():
		return fmt.Sprintf("the catalog gives its slug to tenant id %s", owner)
	}
	return ""
}

// check keeps one senseless row from failing the whole rebuild at a constraint.
func (t Tenant) check() error {
	_, slugErr := tenant.ParseSlug(string(t.Slug))
	_, modelErr := ParseModel(string(t.Model))
	var epochErr error
	if t.Epoch <= 0 {
		epochErr = fmt.Errorf("epoch %d", t.Epoch)
	}
	return errors.Join(t.Home.Validate(), slugErr, modelErr, epochErr)
}

// keepIntent is the state of a tenant in the catalog once its fence says fence. Removal and a move are decided in the
// catalog and show in the fence only in part: a home that is to be removed is closed, one that is to be moved is open yet. An
// open home is nobody's to remove: it was resumed after the backup. Nor does a tenant move without a move that somebody could go on
// with or abort: what such a one has left, landlord doctor reports.
func (b *rebuild) keepIntent(have Tenant, fence State) State {
	if have.State == StateRemoving && fence == StateSuspended || have.State == StateMoving && fence == StateActive && b.moving[have.ID] {
		return have.State
	}
	return fence
}

func (b *rebuild) update(ctx context.Context, have, want Tenant) error {
	const tenants = `
update landlord.tenants set state = $2, remove_after = case $2 when 'removing' then remove_after end where id = $1`
	const placements = `update landlord.placements set model = $2, cluster = $3, database = $4, schema = $5, epoch = $6 where tenant = $1`
	if _, err := b.tx.Exec(ctx, tenants, want.ID.String(), want.State); err != nil {
		return err
	}
	if _, err := b.tx.Exec(ctx, placements, want.ID.String(), want.Model, want.Home.Cluster, want.Home.Database, want.Home.Schema, want.Epoch); err != nil {
		return err
	}
	return b.c.log(ctx, b.tx, LogEntry{
		Kind: KindRebuilt, Tenant: want.ID, Slug: want.Slug, Cluster: want.Home.Cluster, Epoch: want.Epoch,
		Before: have.summary(), After: want.summary(),
	})
}

func (b *rebuild) changed(t Tenant, before, after string) {
	b.report.Changes = append(b.report.Changes, RebuildChange{Tenant: t.ID, Slug: t.Slug, Before: before, After: after})
}

func (b *rebuild) problem(id tenant.ID, slug tenant.Slug, format string, args ...any) {
	b.report.Problems = append(b.report.Problems, RebuildProblem{Tenant: id, Slug: slug, Problem: fmt.Sprintf(format, args...)})
}

func (t Tenant) summary() string {
	return fmt.Sprintf("%s as %s, epoch %d, %s", t.Home, t.Model, t.Epoch, t.State)
}

func describe(fences []FenceRow) string {
	parts := make([]string, len(fences))
	for i, f := range fences {
		parts[i] = fmt.Sprintf("%s is %s at epoch %d", f.Home, f.State, f.Epoch)
	}
	return strings.Join(parts, ", ")
}
