package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// diagnosis is what doctor prints.
type diagnosis struct {
	Catalog   *catalogHealth   `json:"catalog"` // null: it could not be read
	Clusters  []clusterHealth  `json:"clusters"`
	Databases []databaseHealth `json:"databases"`
	Tenants   int              `json:"tenants"`
	Findings  []finding        `json:"findings"`
	Warnings  []finding        `json:"warnings"` // what holds, and should be better; they leave the exit status as it is
	Residue   []residue        `json:"residue"`
}

type catalogHealth struct {
	Installation string `json:"installation"`
	IDType       string `json:"id_type"`
	Version      int64  `json:"version"`

	ClockAhead float64 `json:"clock_ahead_seconds"` // of this machine's
}

type clusterHealth struct {
	Name          string `json:"name"`
	Reachable     bool   `json:"reachable"`
	ServerVersion string `json:"server_version,omitempty"`
	Mode          string `json:"mode,omitempty"` // of its shared database

	ClockAhead         float64 `json:"clock_ahead_seconds"` // of this machine's
	WALLevel           string  `json:"wal_level,omitempty"`
	MaxSlotWALKeepSize string  `json:"max_slot_wal_keep_size,omitempty"`
}

type databaseHealth struct {
	Cluster     string `json:"cluster"`
	Name        string `json:"name"`
	Healthy     bool   `json:"healthy"`
	Mode        string `json:"mode"`
	HomeVersion int    `json:"home_version"`
	Pooler      string `json:"pooler,omitempty"` // how the pooler before it works: transaction, session, statement; empty: none
}

// finding is one thing that is not as it should be, or could be better.
type finding struct {
	Where   string `json:"where"`
	Problem string `json:"problem"`
	Fix     string `json:"fix"`
}

// residue is something that this installation has made and that nobody needs: a schema or database in which no tenant lives, a slot of
// a move that is over.
type residue struct {
	Cluster string `json:"cluster"`
	Object  string `json:"object"`
	Why     string `json:"why"`
	Fix     string `json:"fix"`
}

func newDoctorCmd(a *app) *cobra.Command {
	var rebuild, dryRun bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether catalog, clusters, databases, keys and tenants agree",
		Long: `Look at the whole installation, and say of each thing found what to do (exit status 4). Warnings, which need
not be mended today, leave the status 0. It changes nothing: where it tries something, it rolls back.

  servers     versions with known holes in row-level security, roles, clocks, connections
  log         replication slots that nobody reads, and what the server keeps for them
  databases   version, mode, stamp; the seal: the application cannot write the register, and the guard can
  keys        who can read them, which databases know them, how old they are
  poolers     their mode, tried with two tenants on one backend
  tenants     whether catalog and homes agree; schemas, databases and moves that belong to nobody any more

--rebuild-catalog is for a catalog that was restored from an old backup: it reads the fence rows, which lie
beside the data, and makes the catalog agree with them. It removes nobody and lowers no epoch; what a person
must decide it reports. Run 'landlord init' first, so that the catalog knows all clusters.`,
		Example: `  landlord doctor
  landlord doctor --json | jq '.findings[] | {where, fix}'
  landlord doctor --rebuild-catalog --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rebuild {
				return a.rebuildCatalog(cmd.Context(), dryRun)
			}
			return a.doctor(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild-catalog", false, "make the catalog agree with the homes")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with --rebuild-catalog: only show what would change")
	return cmd
}

func (a *app) doctor(ctx context.Context) error {
	a.patience = 5 * time.Second // that the catalog cannot be reached is a finding
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	d := &doctor{h: h, progress: a.progress, out: diagnosis{
		Clusters: []clusterHealth{}, Databases: []databaseHealth{}, Findings: []finding{}, Warnings: []finding{}, Residue: []residue{},
	}, keySince: map[int]time.Time{}, keeps: map[string][]slot{}}
	if err := d.examine(ctx); err != nil {
		return err
	}
	if err := a.show(d.out, d.out.write); err != nil {
		return err
	}
	if len(d.out.Findings)+len(d.out.Residue) > 0 {
		return &statusError{status: exitFindings}
	}
	return nil
}

// doctor is one examination.
type doctor struct {
	h        *house
	progress func(string, ...any)
	settings placement.Settings
	ring     isolation.Keyring // nil: it cannot be read
	keeps    map[string][]slot // by cluster

	mu       sync.Mutex // guards what follows while databases are looked at together
	keySince map[int]time.Time
	out      diagnosis
}

func (d *doctor) find(where, fix, problem string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out.Findings = append(d.out.Findings, finding{Where: where, Problem: fmt.Sprintf(problem, args...), Fix: fix})
}

func (d *doctor) warn(where, fix, problem string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out.Warnings = append(d.out.Warnings, finding{Where: where, Problem: fmt.Sprintf(problem, args...), Fix: fix})
}

// examine looks at everything that can be looked at. Its error is that it could not go on; what is wrong goes to out.
func (d *doctor) examine(ctx context.Context) error {
	d.keyFile()
	clusters, known := d.catalog(ctx)
	reached := map[string]bool{}
	for _, c := range clusters {
		d.progress("looking at cluster %s", c.Name)
		reached[c.Name] = d.cluster(ctx, c, clusters)
	}
	if !known || ctx.Err() != nil {
		return ctx.Err()
	}
	d.catalogClock(ctx)
	if err := d.databases(ctx, clusters, reached); err != nil {
		return err
	}
	d.keyAges()
	d.idTypes(ctx, clusters, reached)
	if err := d.tenants(ctx, clusters, reached); err != nil {
		return err
	}
	if err := d.moves(ctx); err != nil {
		return err
	}
	return d.slots(ctx)
}

// keyFile checks the seal keys, and that others cannot read them.
func (d *doctor) keyFile() {
	ref := d.h.config.Keys
	var err error
	if d.ring, err = readKeys(ref); errors.Is(err, fs.ErrNotExist) {
		d.find("keys", "bring the file back from a backup; if there was none yet: landlord init", "%s does not exist", ref)
	} else if err != nil {
		d.find("keys", "correct what 'keys' of the configuration refers to", "%v", err)
	}
	file := keyFile(ref)
	if file == "" {
		return
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&^0o600 != 0 {
		d.find("keys", "chmod 600 "+file, "%s has mode %04o: others can read the keys and enter any tenant", file, info.Mode().Perm())
	}
}

// catalog checks the catalog and returns its clusters, or those of the configuration when it cannot be read.
func (d *doctor) catalog(ctx context.Context) (clusters []placement.Cluster, known bool) {
	clusters, err := d.readCatalog(ctx)
	if err == nil {
		return clusters, true
	}
	fix := "start the control database, or correct what 'catalog' of the configuration refers to; homes go on working without it"
	if errors.Is(err, placement.ErrNoCatalog) {
		fix = "landlord init; and if there were tenants before: landlord doctor --rebuild-catalog"
	}
	d.find("catalog", fix, "%v", err)
	for _, entry := range d.h.config.Clusters {
		clusters = append(clusters, entry.cluster())
	}
	return clusters, false
}

func (d *doctor) readCatalog(ctx context.Context) ([]placement.Cluster, error) {
	var err error
	if d.settings, err = d.h.catalog.Settings(ctx); err != nil {
		return nil, err
	}
	have, want, err := d.h.catalog.Version(ctx)
	if err != nil {
		return nil, err
	}
	d.out.Catalog = &catalogHealth{Installation: d.settings.Installation, IDType: string(d.settings.IDType), Version: have}
	switch {
	case have < want:
		d.find("catalog", "landlord init", "it has version %d, this program makes %d", have, want)
	case have > want:
		d.find("catalog", "use the newer release of landlord", "it has version %d, this program knows %d", have, want)
	}
	if configured := d.h.config.IDType; configured != d.settings.IDType {
		d.find("catalog", "set id_type: "+string(d.settings.IDType), "tenant ids are %s, and the configuration says %s", d.settings.IDType, configured)
	}
	return d.h.catalog.Clusters(ctx)
}

func (o diagnosis) write(w io.Writer) {
	if o.Catalog != nil {
		fmt.Fprintf(w, "catalog\tversion %d, ids are %s, %d tenants\n", o.Catalog.Version, o.Catalog.IDType, o.Tenants)
	}
	for _, c := range o.Clusters {
		state := "cannot be reached"
		if c.Reachable {
			state = "PostgreSQL " + c.ServerVersion
			if c.Mode != "" {
				state += ", mode " + c.Mode
			}
		}
		fmt.Fprintf(w, "cluster %s\t%s\n", c.Name, state)
	}
	healthy := 0
	for _, db := range o.Databases {
		if db.Healthy {
			healthy++
		}
	}
	fmt.Fprintf(w, "databases\t%d of %d as they should be\n", healthy, len(o.Databases))
	for _, f := range o.Findings {
		fmt.Fprintf(w, "\n%s: %s\n  what to do: %s\n", f.Where, f.Problem, f.Fix)
	}
	for _, r := range o.Residue {
		fmt.Fprintf(w, "\ncluster %s: %s %s\n  what to do: %s\n", r.Cluster, r.Object, r.Why, r.Fix)
	}
	for _, f := range o.Warnings {
		fmt.Fprintf(w, "\nwarning: %s: %s\n  what to do: %s\n", f.Where, f.Problem, f.Fix)
	}
	switch {
	case len(o.Findings)+len(o.Residue) > 0:
	case len(o.Warnings) > 0:
		fmt.Fprintln(w, "\nnothing found but warnings")
	default:
		fmt.Fprintln(w, "nothing found")
	}
}
