package drift

import (
	"context"
	"fmt"
	"strings"

	"github.com/landlord-go/landlord/migrate/fingerprint"
	"github.com/landlord-go/landlord/placement"
)

// Among returns which of these homes have drifted, each with what differs there in a few words, and how many of them could not be
// looked at, with the reason of one. Homes that are not among [Targets] are left out.
func Among(ctx context.Context, cfg Config, homes []placement.Home) (drifted map[placement.Home]string, unknown int, reason string, err error) {
	if len(homes) == 0 {
		return nil, 0, "", nil
	}
	wanted := make(map[placement.Home]bool, len(homes))
	for _, h := range homes {
		wanted[h] = true
	}
	all, err := Targets(ctx, cfg.Catalog)
	if err != nil {
		return nil, 0, "", err
	}
	var targets []Target
	for _, t := range all {
		if wanted[t.Home] {
			targets = append(targets, t)
		}
	}
	results, err := Check(ctx, cfg, targets)
	if err != nil {
		return nil, 0, "", err
	}
	drifted = make(map[placement.Home]string)
	for _, r := range results {
		switch r.State {
		case Drifted:
			drifted[r.Home] = "drifted: " + Brief(r.Differences) + " (landlord migrate drift shows all)"
		case Unknown:
			unknown, reason = unknown+1, r.Home.String()+": "+r.Reason
		case InSync, Behind, Ahead:
		}
	}
	return drifted, unknown, reason, nil
}

// Brief names the first few of what differs, without definitions.
func Brief(differences []fingerprint.Difference) string {
	const most = 3
	var parts []string
	for i, d := range differences {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(differences)-most))
			break
		}
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Change, d.Kind, d.Object)))
	}
	return strings.Join(parts, ", ")
}
