//go:build landlord_faults

package move

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Fault names the point at which the process fails, and how: "point[:nth]:kill|error|hang|wait". At the nth time it comes by, or the
// first, it is killed as by kill -9, has an error, once, or hangs until it is told to stop; or it waits for SIGCONT, before which
// something else is made to fail, and goes on.
const faultEnv = "LANDLORD_FAULT"

// FaultPoints lists every point, in the order in which a move that is rolled back or completed comes by.
func FaultPoints() []string { return slices.Clone(faultPoints) }

var faultPoints = []string{
	"begin-planned", "end-preparing", "begin-preparing",
	"hold-source", "make-home", "hold-target", "forget-copy", "inspect", "open-stream",
	"forward-publication", "forward-slot", "forward-start", "end-copying", "begin-copying", "copied", "end-following", "begin-following",
	"caught-up", "reverse-publication", "reverse-slot", "prove-reverse", "verify", "end-verified", "begin-verified",
	"end-fencing", "begin-fencing",
	"cutover-gate", "cutover-lock", "cutover-raise", "cutover-freeze", "cutover-apply", "cutover-sequences", "cutover-snapshot", "cutover-commit", "cutover-open", "cutover-opened",
	"end-committed", "begin-committed", "forward-opened", "forward-routed", "drop-forward-slot", "drop-forward-publication", "drop-reverse-slot", "drop-reverse-publication",
	"end-reversing", "begin-reversing",
	"end-rolling-back", "begin-rolling-back", "end-reverting", "begin-reverting", "reverse-opened", "reverse-routed",
	"end-completing", "begin-completing", "end-aborting", "begin-aborting",
	"clean-slot", "clean-publication", "clean-home", "clean-ledger", "clean-hold",
	"end-done", "end-aborted", "end-reverted",
}

var passed struct {
	sync.Mutex
	times map[string]int
}

// fault fails where LANDLORD_FAULT says so. A point that is not listed is a mistake.
func fault(ctx context.Context, point string) error {
	if !slices.Contains(faultPoints, point) {
		panic("fault point " + point + " is not listed")
	}
	parts := strings.Split(os.Getenv(faultEnv), ":")
	if len(parts) < 2 || parts[0] != point {
		return nil
	}
	nth := 1
	if len(parts) == 3 {
		nth, _ = strconv.Atoi(parts[1])
	}
	passed.Lock()
	if passed.times == nil {
		passed.times = map[string]int{}
	}
	passed.times[point]++
	now := passed.times[point]
	passed.Unlock()
	if now != nth {
		return nil
	}
	goOn := make(chan os.Signal, 1)
	signal.Notify(goOn, syscall.SIGCONT)
	defer signal.Stop(goOn)
	fmt.Fprintln(os.Stderr, "fault point", point) // whoever waits for it reads this
	switch parts[len(parts)-1] {
	case "kill":
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			panic(err)
		}
		select {}
	case "hang":
		<-ctx.Done()
		return context.Cause(ctx)
	case "wait":
		<-goOn
		return nil
	}
	return fmt.Errorf("fault point %s", point)
}
