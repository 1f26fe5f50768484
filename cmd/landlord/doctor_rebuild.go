package main

import (
	"context"
	"fmt"
	"io"

	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
)

// rebuilt is what `doctor --rebuild-catalog` prints.
type rebuilt struct {
	Databases []string         `json:"databases"` // taken up or corrected
	Changes   []rebuiltTenant  `json:"changes"`
	Problems  []rebuiltProblem `json:"problems"`
	Unread    []string         `json:"unread"` // homes that could not be read
	DryRun    bool             `json:"dry_run,omitempty"`
}

type rebuiltTenant struct {
	ID     string `json:"id"`
	Slug   string `json:"slug"`
	Before string `json:"before"`
	After  string `json:"after"`
}

type rebuiltProblem struct {
	ID      string `json:"id"`
	Slug    string `json:"slug"`
	Problem string `json:"problem"`
}

func (a *app) rebuildCatalog(ctx context.Context, dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	a.progress("reading the homes of all clusters")
	census, err := h.service.Census(ctx)
	if err != nil {
		return err
	}
	out := rebuilt{Databases: []string{}, Changes: []rebuiltTenant{}, Problems: []rebuiltProblem{}, Unread: []string{}, DryRun: dryRun}
	for _, unread := range census.Errors {
		out.Unread = append(out.Unread, unread.Error())
	}
	if err := h.takeUp(ctx, census, dryRun, &out); err != nil {
		return err
	}
	report, err := h.catalog.Rebuild(ctx, census.Fences, dryRun)
	if err != nil {
		return err
	}
	for _, c := range report.Changes {
		out.Changes = append(out.Changes, rebuiltTenant{c.Tenant.String(), string(c.Slug), c.Before, c.After})
	}
	for _, p := range report.Problems {
		out.Problems = append(out.Problems, rebuiltProblem{p.Tenant.String(), string(p.Slug), p.Problem})
	}
	if err := a.show(out, out.write); err != nil {
		return err
	}
	switch {
	case len(out.Unread) > 0:
		return partly(fmt.Errorf("%d homes could not be read, so nothing is known of those who live there: do this again when they can be", len(out.Unread)))
	case len(out.Problems) > 0:
		return &statusError{status: exitFindings}
	}
	return nil
}

// takeUp records databases that the catalog does not know, and corrects what it knows of the others. A database with another
// stamp than the recorded one is another database: that is left to a person. It comes before the tenants, so that a router
// which hears of a tenant finds the database too.
func (h *house) takeUp(ctx context.Context, census onboard.Census, dryRun bool, out *rebuilt) error {
	known, err := h.catalog.Databases(ctx)
	if err != nil {
		return err
	}
	recorded := map[string]placement.Database{}
	for _, db := range known {
		recorded[db.Cluster+"/"+db.Name] = db
	}
	for _, db := range census.Databases {
		name := db.Cluster + "/" + db.Name
		have, ok := recorded[name]
		if have == db {
			continue
		}
		if ok && have.Stamp != db.Stamp {
			out.Problems = append(out.Problems, rebuiltProblem{Problem: fmt.Sprintf(
				"database %s has stamp %s, the catalog expects %s: it was dropped and re-created, or the endpoint leads elsewhere", name, db.Stamp, have.Stamp)})
			continue
		}
		out.Databases = append(out.Databases, name)
		if dryRun {
			continue
		}
		if err := h.catalog.PutDatabase(ctx, db); err != nil {
			return err
		}
	}
	return nil
}

func (r rebuilt) write(w io.Writer) {
	did := map[bool]string{false: "", true: "would be "}[r.DryRun]
	for _, name := range r.Databases {
		fmt.Fprintf(w, "database %s: %srecorded\n", name, did)
	}
	for _, c := range r.Changes {
		if c.Before == "" {
			fmt.Fprintf(w, "tenant %s: %sadded, %s\n", c.Slug, did, c.After)
			continue
		}
		fmt.Fprintf(w, "tenant %s: %scorrected from %s to %s\n", c.Slug, did, c.Before, c.After)
	}
	if len(r.Databases)+len(r.Changes) == 0 {
		fmt.Fprintln(w, "the catalog agrees with the homes")
	}
	for _, p := range r.Problems {
		if p.Slug == "" {
			fmt.Fprintf(w, "left to you: %s\n", p.Problem)
			continue
		}
		fmt.Fprintf(w, "left to you: tenant %s: %s\n", p.Slug, p.Problem)
	}
	for _, unread := range r.Unread {
		fmt.Fprintf(w, "not read: %s\n", unread)
	}
}
