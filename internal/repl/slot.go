package repl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// ErrSlotLost reports a slot that is gone, or that the server has given up because it held back more of the log than
// max_slot_wal_keep_size allows. Changes are missing: what was copied by its help must be copied anew.
var ErrSlotLost = errors.New("the replication slot is lost: the copy must start again")

// SlotActiveError reports a slot that is being read, perhaps by a connection that the server does not know to be dead.
type SlotActiveError struct {
	Slot string
	PID  int // of the walsender that reads it; 0: it has just let it go
}

func (e *SlotActiveError) Error() string {
	return fmt.Sprintf("slot %s is read by process %d: wait for it, or end it", e.Slot, e.PID)
}

// SlotWaitError reports that a slot could not be made in time, because it has to wait for every transaction on the server
// that writes.
type SlotWaitError struct {
	Slot     string
	PIDs     []int    // backends whose transactions are written in, oldest first; none: they have ended by now
	Prepared []string // prepared transactions
	err      error
}

func (e *SlotWaitError) Error() string {
	return fmt.Sprintf("make slot %s: it waits for the open transactions of processes %v and the prepared ones %q: try again when they have ended",
		e.Slot, e.PIDs, e.Prepared)
}

func (e *SlotWaitError) Unwrap() error { return e.err }

// CreateSlot makes a logical slot and returns where it begins: each transaction that commits after that can be streamed.
// It has to wait for every transaction that writes anywhere on the server, for each up to lockTimeout; then it is a
// *SlotWaitError. No slot is left after an error, unless the connection was lost, too. A slot of that name that exists is
// pgerr.DuplicateObject.
func (c *Conn) CreateSlot(ctx context.Context, name string, lockTimeout time.Duration) (LSN, error) {
	if _, err := c.query(ctx, fmt.Sprintf("set lock_timeout = %d", lockTimeout.Milliseconds())); err != nil {
		return 0, fmt.Errorf("make slot %s: %w", name, err)
	}
	rows, err := c.query(ctx, "CREATE_REPLICATION_SLOT "+pgx.Identifier{name}.Sanitize()+" LOGICAL pgoutput (SNAPSHOT 'nothing')")
	if pgerr.Is(err, pgerr.LockNotAvailable) {
		return 0, c.waiting(ctx, name, err)
	}
	if err != nil {
		return 0, fmt.Errorf("make slot %s: %w", name, err)
	}
	if len(rows) != 1 || len(rows[0]) < 2 {
		return 0, fmt.Errorf("make slot %s: %w: the answer has no position", name, ErrMessage)
	}
	return ParseLSN(string(rows[0][1]))
}

// waiting tells for whom the slot waits.
func (c *Conn) waiting(ctx context.Context, name string, cause error) error {
	e := &SlotWaitError{Slot: name, err: cause}
	const backends = `
select pid from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid() order by age(backend_xid) desc`
	rows, err := c.query(ctx, backends)
	if err != nil {
		return errors.Join(e, err)
	}
	for _, row := range rows {
		e.PIDs = append(e.PIDs, number(row[0]))
	}
	if rows, err = c.query(ctx, `select gid from pg_prepared_xacts order by prepared`); err != nil {
		return errors.Join(e, err)
	}
	for _, row := range rows {
		e.Prepared = append(e.Prepared, string(row[0]))
	}
	return e
}

// Evict ends whoever reads the slot, and waits up to ten seconds until it has let go. It must not be called for a slot
// that another living mover may read by right. Nobody reading it is no error.
func (c *Conn) Evict(ctx context.Context, slot string) error {
	const q = `
select coalesce(pg_terminate_backend(active_pid, 10000), true) from pg_replication_slots where slot_name = `
	rows, err := c.query(ctx, q+literal(slot))
	if err != nil {
		return fmt.Errorf("end the reader of slot %s: %w", slot, err)
	}
	if len(rows) == 1 && string(rows[0][0]) != "t" {
		return fmt.Errorf("end the reader of slot %s: it is still there", slot)
	}
	return nil
}

// slotError gives a failed START_REPLICATION its type. The codes are shared by several causes: the slot's row tells which.
func (c *Conn) slotError(ctx context.Context, slot string, cause error) error {
	if !pgerr.Is(cause, pgerr.ObjectInUse, pgerr.ObjectNotInPrerequisite, pgerr.UndefinedObject) {
		return cause
	}
	const q = `
select coalesce(active_pid, 0), coalesce(wal_status = 'lost', false) from pg_replication_slots where slot_name = `
	rows, err := c.query(ctx, q+literal(slot))
	switch {
	case err != nil:
		return errors.Join(cause, err)
	case len(rows) == 0, string(rows[0][1]) == "t":
		return fmt.Errorf("%w: %w", ErrSlotLost, cause)
	case pgerr.Is(cause, pgerr.ObjectInUse):
		return &SlotActiveError{Slot: slot, PID: number(rows[0][0])}
	}
	return cause
}

// query runs one command and returns its rows as text.
func (c *Conn) query(ctx context.Context, sql string) ([][][]byte, error) {
	results, err := c.commands.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[0].Rows, results[0].Err
}

// number reads what PostgreSQL writes for an integer.
func number(text []byte) int {
	n, _ := strconv.Atoi(string(text)) // an integer column has nothing else
	return n
}
