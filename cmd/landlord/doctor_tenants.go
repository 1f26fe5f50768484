package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// provisioningTooLong is when an onboarding counts as forgotten.
const provisioningTooLong = time.Hour

// fenceStates lists what a home may say of a tenant in each state of the catalog.
var fenceStates = map[placement.State][]string{
	placement.StateActive:    {string(isolation.Open)},
	placement.StateSuspended: {string(isolation.Suspended)},
	placement.StateRemoving:  {string(isolation.Suspended)},
	placement.StateMoving:    {string(isolation.Open), string(isolation.Fenced), string(isolation.Moved)},
}

// tenants compares placements with fence rows.
func (d *doctor) tenants(ctx context.Context, clusters []placement.Cluster, reached map[string]bool) error {
	census, err := d.h.service.Census(ctx)
	if err != nil {
		return err
	}
	for _, unread := range census.Errors {
		if reached[unread.Cluster] { // else it has been said
			d.find("cluster "+unread.Cluster, "see why the operator cannot read it", "%v", unread)
		}
	}
	all, err := d.h.catalog.Tenants(ctx, placement.Filter{})
	if err != nil {
		return err
	}
	d.out.Tenants = len(all)
	read := map[string]bool{}
	for _, db := range census.Databases {
		read[db.Cluster+"/"+db.Name] = true
	}
	fences := map[tenant.ID][]placement.FenceRow{}
	for _, f := range census.Fences {
		fences[f.Tenant] = append(fences[f.Tenant], f)
	}
	placed := map[tenant.ID]bool{}
	for _, t := range all {
		placed[t.ID] = true
		// Of a home that is being destroyed not even the database need be there.
		known := read[t.Home.Cluster+"/"+t.Home.Database] || t.RemovalDue && reached[t.Home.Cluster]
		d.tenant(t, fences[t.ID], known)
	}
	for _, id := range slices.SortedFunc(maps.Keys(fences), byText) {
		rows := fences[id]
		if !placed[id] {
			d.find("tenant "+string(rows[0].Slug), "landlord doctor --rebuild-catalog takes it up; 'landlord tenant remove' then takes it away",
				"the catalog does not know tenant id %s, which lives at %s", id, rows[0].Home)
		}
		d.oneHome(rows)
	}
	d.unknownDatabases(census)
	for id := range fences {
		placed[id] = true // said already
	}
	return d.leftovers(ctx, clusters, reached, placed)
}

// tenant compares one placement with the fence rows of the tenant.
func (d *doctor) tenant(t placement.Tenant, fences []placement.FenceRow, read bool) {
	where := "tenant " + string(t.Slug)
	if t.State == placement.StateProvisioning {
		if age := time.Since(t.CreatedAt); age > provisioningTooLong {
			d.find(where, fmt.Sprintf("landlord tenant add %s --model %s finishes it, landlord tenant remove %[1]s --confirm %[1]s takes it away", t.Slug, t.Model),
				"it has been provisioning for %s", age.Round(time.Minute))
		}
		return
	}
	if !read {
		return // that its database cannot be read has been said
	}
	const rebuild = "if the catalog was restored from a backup: landlord doctor --rebuild-catalog"
	for _, f := range fences {
		if f.Home != t.Home {
			continue
		}
		switch {
		case f.Epoch != t.Epoch:
			d.find(where, rebuild, "its home %s is at epoch %d, the catalog says %d", t.Home, f.Epoch, t.Epoch)
		case !slices.Contains(fenceStates[t.State], f.State):
			d.find(where, "repeat what was interrupted: landlord tenant suspend, resume or remove "+string(t.Slug),
				"its home says %s, the catalog says %s", f.State, t.State)
		}
		return
	}
	if t.State == placement.StateRemoving && t.RemovalDue { // its home may be half gone, or was never whole
		d.find(where, fmt.Sprintf("landlord tenant remove --due finishes it; then landlord tenant add %s can be repeated", t.Slug),
			"it is to be destroyed, and has not gone altogether")
		return
	}
	d.find(where, rebuild+"; else bring the home back from a backup", "its home %s has no fence row of it: nobody can enter", t.Home)
}

func byText(a, b tenant.ID) int { return strings.Compare(a.String(), b.String()) }

// oneHome finds a tenant that more than one home takes in.
func (d *doctor) oneHome(rows []placement.FenceRow) {
	var homes []string
	for _, f := range rows {
		if f.State == string(isolation.Open) || f.State == string(isolation.Fenced) {
			homes = append(homes, fmt.Sprintf("%s (%s at epoch %d)", f.Home, f.State, f.Epoch))
		}
	}
	if len(homes) > 1 {
		d.find("tenant "+string(rows[0].Slug), "landlord tenant suspend "+string(rows[0].Slug)+" closes the home that the catalog names; "+
			"compare the two before anything is deleted", "more than one home takes it in: %s", strings.Join(homes, ", "))
	}
}

// unknownDatabases finds databases of this installation that the catalog has forgotten.
func (d *doctor) unknownDatabases(census onboard.Census) {
	known := map[string]bool{}
	for _, db := range d.out.Databases {
		known[db.Cluster+"/"+db.Name] = true
	}
	for _, db := range census.Databases {
		if name := db.Cluster + "/" + db.Name; !known[name] {
			d.find("database "+name, "landlord doctor --rebuild-catalog", "the catalog does not know it")
		}
	}
}
