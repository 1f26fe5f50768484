package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// noHealth is what --health says to go on without a health command.
const noHealth = "none"

func (args *migrateRun) betweenFlags(cmd *cobra.Command) {
	cmd.Flags().Func("soak", "wait for this `time` after each wave but the last, such as 10m", func(text string) error {
		d, err := time.ParseDuration(text)
		args.soak = &d
		return err
	})
	cmd.Flags().StringVar(&args.health, "health", "", "shell `command` that decides after each wave but the last whether the next one begins")
}

// between adds to o what stands between waves.
func (args *migrateRun) between(o *fleet.Options) error {
	if args.soak != nil {
		switch o.Soak = *args.soak; {
		case o.Soak < 0:
			return usageError("--soak is a time to wait, such as 10m")
		case o.Soak == 0:
			o.Soak = -1 // to take it away is more than to say nothing
		}
	}
	switch strings.TrimSpace(args.health) {
	case "":
		if args.health != "" {
			return usageError("--health is a shell command, or none")
		}
	case noHealth:
		o.NoHealth = true
	default:
		o.Health = healthCommand(args.health)
	}
	return nil
}

// healthCommand asks a shell command whether all is well. The process group is the command's own, so that all that it has
// started ends when its time is over.
func healthCommand(command string) fleet.Health {
	return func(ctx context.Context, run placement.Run) error {
		cmd := exec.CommandContext(ctx, "sh", "-c", command)
		cmd.Env = append(os.Environ(), fmt.Sprintf("LANDLORD_RUN=%d", run.Number), fmt.Sprintf("LANDLORD_WAVE=%d", run.Wave))
		var out tail
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second
		err := cmd.Run()
		switch {
		case err == nil, errors.Is(err, exec.ErrWaitDelay): // it has left something behind that holds on to its output
			return nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			err = fmt.Errorf("it took longer than %s", placement.CheckLimit)
		}
		if last := out.lines(); last != "" {
			return fmt.Errorf("%w: %s", err, last)
		}
		return err
	}
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const (
	tailBytes = 1000
	tailLines = 5
)

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-tailBytes):]
	return len(p), nil
}

// lines are the last ones, in one.
func (t *tail) lines() string {
	text := strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(t.kept), ""))
	var all []string
	for line := range strings.Lines(text) {
		if line = oneLine(line); line != "" {
			all = append(all, line)
		}
	}
	return strings.Join(all[max(0, len(all)-tailLines):], "; ")
}
