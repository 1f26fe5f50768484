// Command landlord runs the data layer of a multi-tenant service: it sets up clusters, places
// tenants, migrates and moves them, and shows the state of all that.
//
// Every command checks its arguments, builds plain structs, calls one function of the library and
// prints. Results go to stdout and everything else to stderr; --json changes the format, a
// terminal never does. The exit status is one of those in root.go.
//
//landlordvet:allow around it sets servers and homes up, as their operator
//landlordvet:allow built names of tables are quoted where they are read
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// From the first signal on the next one has its default effect: whoever presses Ctrl-C twice means it.
	context.AfterFunc(ctx, stop)
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.run(ctx, os.Args[1:]))
}
