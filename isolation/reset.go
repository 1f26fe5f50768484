package isolation

// ResetSQL returns what puts a connection back to how it was opened, whatever the last transaction did to its session:
// settings, temporary tables, cursors, notifications, sequence caches. Prepared statements stay. It is sent in front of the
// next transaction, in the same packet. locks tells that the login may take advisory locks, and so may have left some.
func ResetSQL(locks bool) []string {
	reset := []string{
		"set session authorization default", "reset all", "unlisten *", "close all", "discard temp", "discard sequences",
	}
	if locks {
		reset = append(reset, "select pg_advisory_unlock_all()")
	}
	return reset
}
