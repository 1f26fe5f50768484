package main_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type instanceOutput struct {
	ID, Name      string
	SchemaVersion int64 `json:"schema_version"`
	Started       time.Time
	LastSeen      time.Time `json:"last_seen"`
	Silent        bool
	DryRun        bool `json:"dry_run"`
}

func TestInstancesAreShownAndForgotten(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	const alive, gone = "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21", "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d22"
	list := func() (byID map[string]instanceOutput) {
		t.Helper()
		byID = make(map[string]instanceOutput)
		out := parse[struct{ Instances []instanceOutput }](t, s.ok("instance", "list", "--json"))
		require.NotNil(t, out.Instances)
		for _, in := range out.Instances {
			byID[in.ID] = in
		}
		return byID
	}
	require.Empty(t, list())
	require.Contains(t, s.ok("instance", "list"), "nothing that uses homes is alive")

	s.catalogSQL("select landlord.beat('" + alive + "', E'web-1/7 \\033[2J', 0), landlord.beat('" + gone + "', 'web-2/7', 3)")
	s.catalogSQL("update landlord.instances set seen_at = now() - interval '61 s' where id = '" + gone + "'")
	require.Len(t, list(), 2)
	require.False(t, list()[alive].Silent)
	in := list()[gone]
	require.True(t, in.Silent)
	require.EqualValues(t, 3, in.SchemaVersion)
	require.Equal(t, "web-2/7", in.Name)
	require.True(t, in.LastSeen.Before(in.Started))
	text := s.ok("instance", "list")
	require.Regexp(t, `web-1/7  \[2J +- +\S+ +\S+ +alive +`+alive, text)
	require.Regexp(t, `web-2/7 +3 +\S+ +\S+ +silent +`+gone, text)

	require.Equal(t, 2, s.run("instance", "forget", "web-2/7").status)
	require.Equal(t, 1, s.run("instance", "forget", "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d23").status)
	r := s.run("instance", "forget", alive, "--confirm", alive)
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "stop it, and it leaves by itself")
	for _, args := range [][]string{{}, {"--confirm", alive}} {
		r = s.run(append([]string{"instance", "forget", gone}, args...)...)
		require.Equal(t, 2, r.status)
		require.Contains(t, r.stderr, "landlord instance forget "+gone+" --confirm "+gone)
	}
	require.Contains(t, s.ok("instance", "forget", gone, "--dry-run"), "would forget instance web-2/7, written for version 3")
	require.Len(t, list(), 2)

	out := parse[instanceOutput](t, s.ok("instance", "forget", gone, "--confirm", gone, "--json"))
	require.Equal(t, "web-2/7", out.Name)
	require.False(t, out.DryRun)
	require.Len(t, list(), 1)
	require.Contains(t, list(), alive)
}
