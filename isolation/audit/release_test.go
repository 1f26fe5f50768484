package audit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation/audit"
)

func TestVulnerabilitiesGoByTheRelease(t *testing.T) {
	t.Parallel()
	const plans, server = "CVE-2026-14666", "CVE-2026-14680"
	for version, want := range map[int]struct {
		release string
		known   []string
	}{
		150002: {"15.19", []string{"CVE-2023-2455", "CVE-2023-39418", "CVE-2024-10976", "CVE-2025-8713", plans, server}},
		150018: {"15.19", []string{plans, server}},
		150019: {},
		160009: {"16.15", []string{"CVE-2025-8713", plans, server}},
		160015: {},
		170000: {"17.11", []string{"CVE-2024-10976", "CVE-2025-8713", plans, server}},
		170011: {},
		180004: {"18.6", []string{plans, server}},
		180006: {},
		190000: {},
	} {
		known, release := audit.Vulnerabilities(version)
		var got []string
		for _, v := range known {
			require.NotEmpty(t, v.Risk)
			got = append(got, v.CVE)
		}
		require.Equal(t, want.known, got, version)
		require.Equal(t, want.release, release, version)
	}
}
