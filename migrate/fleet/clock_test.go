package fleet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// clock tells how much processor time this process and the server have used together, which a busy machine changes much less
// than it changes times. It knows that of a server on the same Linux machine; elsewhere it stands still.
type clock struct{ postmaster string }

func newClock(t testing.TB, dsn string) clock {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	stat := procStat(strconv.FormatUint(uint64(conn.PgConn().PID()), 10))
	if stat == nil || !strings.HasPrefix(stat.name, "postgres") {
		return clock{}
	}
	return clock{stat.parent}
}

// used is the time until now. The server's processes that have ended count with their parent.
func (c clock) used() time.Duration {
	self, server := procStat("self"), procStat(c.postmaster)
	if c.postmaster == "" || self == nil || server == nil {
		return 0
	}
	sum := self.own + server.own + server.ended
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0
	}
	for _, dir := range all {
		if p := procStat(filepath.Base(dir)); p != nil && p.parent == c.postmaster {
			sum += p.own
		}
	}
	return sum
}

type process struct {
	name, parent string
	own, ended   time.Duration // of itself, and of its children that have ended
}

// procStat reads /proc/PID/stat, nil where there is none.
func procStat(pid string) *process {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return nil
	}
	open, shut := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	if open < 0 || shut < open {
		return nil
	}
	fields := strings.Fields(string(text[shut+1:]))
	if len(fields) < 15 {
		return nil
	}
	var ticks [4]int64
	for i := range ticks {
		if ticks[i], err = strconv.ParseInt(fields[11+i], 10, 64); err != nil {
			return nil
		}
	}
	const tick = 10 * time.Millisecond // of every Linux
	return &process{
		name: string(text[open+1 : shut]), parent: fields[1],
		own: time.Duration(ticks[0]+ticks[1]) * tick, ended: time.Duration(ticks[2]+ticks[3]) * tick,
	}
}

// cost is what a way took in one round.
type cost struct{ time, cpu time.Duration }

func (c clock) measure(fn func()) cost {
	start, used := time.Now(), c.used()
	fn()
	return cost{time.Since(start), c.used() - used}
}

// ratio says how many times as much as ours another way took, in time and in processor time.
func (c cost) ratio(ours cost) (byTime, byCPU float64) {
	return c.time.Seconds() / ours.time.Seconds(), c.cpu.Seconds() / ours.cpu.Seconds()
}

func times(x float64) string {
	if x > 0 && x < 1e6 {
		return fmt.Sprintf("%.2f", x)
	}
	return "" // nothing to divide, or by
}
