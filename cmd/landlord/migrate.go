package main

import (
	"github.com/spf13/cobra"
)

func newMigrateCmd(a *app) *cobra.Command {
	return newGroupCmd("migrate", "Write and check the migrations of all homes",
		newMigrateNewCmd(a),
		newMigrateLintCmd(a),
		newMigratePlanCmd(a),
		newMigrateUpCmd(a),
		newMigrateDownCmd(a),
		newMigrateStatusCmd(a),
		newMigrateWatchCmd(a),
		newMigrateHistoryCmd(a),
		newMigratePauseCmd(a),
		newMigrateResumeCmd(a),
		newMigrateRetryCmd(a),
		newMigrateSkipCmd(a),
		newMigrateReconcileCmd(a),
		newMigrateDriftCmd(a),
		newMigrateBaselineCmd(a),
	)
}

// migrationsDir is the folder that --dir names, or else the configuration's.
func (a *app) migrationsDir(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	c, err := a.config()
	if err != nil {
		return "", usageError("find the migrations: name their folder with --dir, since there is no configuration to say it: %w", err)
	}
	if c.Migrations == "" {
		return "", usageError("find the migrations: the configuration names no folder of migrations: name it with --dir")
	}
	return c.Migrations, nil
}
