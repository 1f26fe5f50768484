package explore_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move/explore"
)

// full says whether there is a minute (make model), or only seconds.
func full() bool { return os.Getenv("LANDLORD_MODEL") == "full" }

// run explores, and says what it found.
func run(t *testing.T, p explore.Protocol) explore.Result {
	t.Helper()
	begun := time.Now()
	r := explore.Explore(p)
	t.Logf("%s, %s", time.Since(begun).Round(time.Millisecond), r)
	return r
}

func TestCutoverHoldsInEveryOrder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		long bool
		p    explore.Protocol
	}{
		{name: "one attempt", p: explore.Protocol{Writes: 1, Attempts: 1}},
		{name: "one attempt and a reader", p: explore.Protocol{Writes: 1, Attempts: 1, Reader: true}},
		{name: "forward, back and a reader", long: true, p: explore.Protocol{Writes: 1, Attempts: 2, Rollback: true, Reader: true}},

		// What enter does with a fence whose time has passed is safe because only the session that holds the lock commits. The
		// time bounds the pause, and nothing else depends on any clock.
		{name: "no fence is waited for without its holder", p: explore.Protocol{Writes: 1, Attempts: 1, Variant: explore.LapseAtOnce}},
		// Where enter waits for somebody who sets the fence back, any session might commit.
		{name: "commit from any session without the lapse", p: explore.Protocol{Writes: 1, Attempts: 1, Variant: explore.AnySession | explore.NoLapse}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.long && !full() {
				t.Skip("make model has the time for it")
			}
			require.Empty(t, run(t, tc.p).Broken)
		})
	}
}

func TestEveryBrokenVariantIsFound(t *testing.T) {
	t.Parallel()
	small := explore.Protocol{Writes: 1, Attempts: 1}
	twice := explore.Protocol{Writes: 1, Attempts: 2}
	back := explore.Protocol{Writes: 1, Attempts: 2, Rollback: true}
	for _, tc := range []struct {
		name    string
		p       explore.Protocol
		variant explore.Variant
		breaks  string
	}{
		{name: "lock after row", p: small, variant: explore.LockAfterRow, breaks: "I2"},
		{name: "no lock", p: small, variant: explore.NoLock, breaks: "I2"},
		{name: "REPEATABLE READ without for share", p: small, variant: explore.NoShare, breaks: "I2"},
		{name: "position before drain", p: small, variant: explore.PositionFirst, breaks: "I1"},
		{name: "no compare-and-set at the commit point", p: small, variant: explore.NoCompare, breaks: "no way"},
		{name: "no compare-and-set, and any session", p: small, variant: explore.NoCompare | explore.AnySession | explore.NoLapse, breaks: "I1"},
		{name: "no time at the commit point", p: small, variant: explore.NoDeadline, breaks: "I7"},
		{name: "lapse, and any session", p: small, variant: explore.AnySession, breaks: "I1"},
		{name: "no applier fence", p: back, variant: explore.NoApplierFence, breaks: "I1"},
		{name: "no position compared", p: twice, variant: explore.NoProgress, breaks: "I1"},
		{name: "sequences not advanced", p: small, variant: explore.NoSequences, breaks: "I1"},
		{name: "sequences of a target that is not one's own", p: twice, variant: explore.BareSequences, breaks: "I1"},
		{name: "claim not looked at again", p: small, variant: explore.NoRecheck, breaks: "no way"},
		{name: "end without asking the other fence", p: small, variant: explore.BlindEnd, breaks: "no way"},
		{name: "stream back recorded after the opening", p: back, variant: explore.OpenFirst, breaks: "I1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := tc.p
			p.Variant = tc.variant
			require.Contains(t, run(t, p).Broken, tc.breaks)
		})
	}
}
