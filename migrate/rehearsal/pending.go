package rehearsal

import (
	"cmp"
	"slices"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
)

// work is what is to be rehearsed.
type work struct {
	set    *migrate.Set
	starts []int64 // versions that homes have, the most common first; what comes after them is pending

	database      int64               // the version that most databases have
	databaseFiles []migrate.Migration // what they lack
	server        []string            // what servers lack
}

// mostStarts is how many of the versions that homes have are rehearsed from.
const mostStarts = 3

// pendingOf reads from a plan what homes have and lack.
func pendingOf(set *migrate.Set, plan fleet.Plan) work {
	w := work{set: set}
	versions := set.Versions()
	if len(versions) > 0 {
		w.database = versions[len(versions)-1]
	}
	homes, databases := make(map[int64]int), 0
	for _, g := range plan.Groups {
		if g.Problem != "" || len(g.Files) == 0 {
			continue
		}
		switch g.Scope {
		case migrate.ScopeTenant:
			homes[before(set, g.Scope, g.Files[0])] += g.Count
		case migrate.ScopeDatabase:
			if g.Count > databases {
				databases, w.database = g.Count, before(set, g.Scope, g.Files[0])
				w.databaseFiles = after(set, g.Scope, w.database)
			}
		case migrate.ScopeServer:
			if len(g.Files) > len(w.server) {
				w.server = g.Files
			}
		}
	}
	for start := range homes {
		w.starts = append(w.starts, start)
	}
	slices.SortFunc(w.starts, func(a, b int64) int { return cmp.Or(cmp.Compare(homes[b], homes[a]), cmp.Compare(a, b)) })
	w.starts = w.starts[:min(len(w.starts), mostStarts)]
	return w
}

func (w work) none() bool { return len(w.starts) == 0 && len(w.databaseFiles) == 0 }

// count is how many files are pending in most homes.
func (w work) count() int {
	n := len(w.databaseFiles)
	if len(w.starts) > 0 {
		n += len(after(w.set, migrate.ScopeTenant, w.starts[0]))
	}
	return n
}

// before is the version that comes before a file in its scope; 0: none.
func before(set *migrate.Set, scope migrate.Scope, file string) (version int64) {
	for _, m := range set.Scoped(scope) {
		if m.File == file {
			break
		}
		version = m.Version
	}
	return version
}

// after returns the files of a scope that come after a version.
func after(set *migrate.Set, scope migrate.Scope, version int64) []migrate.Migration {
	return slices.DeleteFunc(set.Scoped(scope), func(m migrate.Migration) bool { return m.Version <= version })
}
