package rehearsal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
)

// prefix begins the name of every scratch database. Eight hexadecimal digits of the time follow, and eight of chance.
const prefix = "landlord_rehearsal_"

func newName(now int64) string { return fmt.Sprintf("%s%08x%08x", prefix, uint32(now), rand.Uint32()) }

// abandoned is the age at which nobody is at work in a scratch database any more.
const abandoned = time.Hour

// mark is the purpose of a scratch database: whose it is, and when it was made, in seconds since 1970.
func mark(installation string, made int64) string {
	return fmt.Sprintf("rehearsal of %s made %d", installation, made)
}

// Leftover is a scratch database that a killed process has left.
type Leftover struct {
	Name string
	// Unmarked says that its making was cut short, so that nothing shows whose it is. Such a one is for a person to drop.
	Unmarked bool

	purpose string
}

// Leftovers returns the scratch databases of an installation, on conn's server, in which nobody is at work any more.
func Leftovers(ctx context.Context, conn *pgx.Conn, installation string) ([]Leftover, error) {
	const q = `
select datname::text, coalesce(shobj_description(oid, 'pg_database'), ''), extract(epoch from clock_timestamp())::bigint
  from pg_database where datdba = to_regrole($1) and datname ~ ('^' || $2 || '[0-9a-f]{16}$') order by datname`
	rows, err := conn.Query(ctx, q, isolation.OwnerRole, prefix)
	if err != nil {
		return nil, fmt.Errorf("look for databases of rehearsals: %w", err)
	}
	var all []Leftover
	var name, comment string
	var now int64
	_, err = pgx.ForEachRow(rows, []any{&name, &comment, &now}, func() error {
		if comment == "" {
			made, err := strconv.ParseInt(name[len(prefix):len(prefix)+8], 16, 64)
			if err == nil && now-made > int64(abandoned/time.Second) {
				all = append(all, Leftover{Name: name, Unmarked: true})
			}
			return nil
		}
		purpose := strings.TrimPrefix(comment, "landlord: ")
		text, ok := strings.CutPrefix(purpose, strings.TrimSuffix(mark(installation, 0), "0"))
		made, err := strconv.ParseInt(text, 10, 64)
		if ok && err == nil && purpose == mark(installation, made) && now-made > int64(abandoned/time.Second) {
			all = append(all, Leftover{Name: name, purpose: purpose})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for databases of rehearsals: %w", err)
	}
	return all, nil
}

// dropLeftovers drops what killed processes have left. That it cannot is no reason not to rehearse.
func (m *maker) dropLeftovers(ctx context.Context, admin *pgx.Conn) {
	all, err := Leftovers(ctx, admin, m.installation)
	for _, l := range all {
		if err == nil && !l.Unmarked {
			err = isolation.DropDatabase(ctx, admin, l.Name, l.purpose)
		}
	}
	if err != nil {
		m.cfg.progress("databases of earlier rehearsals stay: %v", err)
	}
}
