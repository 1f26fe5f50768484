package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate/fleet"
)

// nextStep is what leads on from a failure.
func nextStep(f fleet.Failure) string {
	retry, skip := "landlord migrate retry", "landlord migrate skip HOME --reason '...'"
	if len(f.Homes) == 1 {
		home := quoteWord(f.Homes[0].String())
		retry, skip = retry+" "+home, "landlord migrate skip "+home+" --reason '...'"
	}
	switch code := f.SQLState; {
	case code == pgerr.Held:
		return "when the move is over: " + retry
	case code == pgerr.LockNotAvailable:
		return "somebody holds a table there: look for an old transaction in pg_stat_activity, end it, then: " + retry
	case code == pgerr.QueryCanceled:
		return "a statement took longer than it may: work in batches with phase=backfill, or let the file begin with " +
			"set local statement_timeout = '10min'; then: landlord migrate up"
	case strings.HasPrefix(code, "40"):
		return "others kept getting in the way: when there is less to do there: " + retry
	case code == pgerr.OutOfMemory:
		return "the server ran out of memory or of locks: raise max_locks_per_transaction, or touch fewer tables in one file, then: " + retry
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57"), strings.HasPrefix(code, "53"):
		return "when the server is there and has room: " + retry
	case strings.HasPrefix(code, "22"), strings.HasPrefix(code, "23"):
		return "put the rows right (landlord tenant psql), then: " + retry + "; or end the run without: " + skip
	case code == "":
		return "when that is put right: " + retry
	}
	return "see how the home differs (landlord migrate drift), put it right, then: " + retry + "; or, where no home has applied the file, " +
		"change it, then: landlord migrate up; or end the run without: " + skip
}

// quoteWord makes one word of a shell's command line.
func quoteWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:", r)
	}
	if strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// writeFailures lists what failed with all homes, and what leads on.
func (v runView) writeFailures(w io.Writer) {
	if len(v.Failures) == 0 {
		fmt.Fprintf(w, "nothing failed in run %d\n", v.Run)
	}
	for i, f := range v.Failures {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%d failed with %s\n  %s\n  %s\n", f.Count, cmp.Or(f.SQLState, "no SQLSTATE"), f.Error, f.Next)
		for _, home := range f.Homes {
			fmt.Fprintf(w, "    %s\n", home)
		}
	}
}
