package router

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Savepoint runs fn under a savepoint. When fn returns an error or panics, what it did is undone, the transaction is as
// before and the error or panic is passed on. So it is when fn passes over a failed statement; the error is ErrRolledBack.
func (tx *Tx) Savepoint(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	tx.points++
	name := "landlord_" + strconv.Itoa(tx.points)
	if err := tx.control(ctx, "savepoint "+name); err != nil {
		return fmt.Errorf("set a savepoint: %w", err)
	}
	returned := false
	undo := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		err := tx.control(ctx, "rollback to "+name)
		if err == nil {
			err = tx.control(ctx, "release "+name)
		}
		if err != nil { // what fn did must not be committed with the rest
			tx.kill()
			return fmt.Errorf("roll back to the savepoint: %w: %w", ErrRolledBack, err)
		}
		return nil
	}
	defer func() {
		if !returned {
			_ = undo()
		}
	}()
	err := fn(ctx, tx)
	returned = true
	if err == nil && tx.failed() {
		err = fmt.Errorf("release the savepoint: %w", ErrRolledBack)
	}
	if err != nil {
		return errors.Join(err, undo())
	}
	if err := tx.control(ctx, "release "+name); err != nil {
		return fmt.Errorf("release the savepoint: %w", err)
	}
	return nil
}

// control runs a statement of the router's own. Its text is not worth a place in the cache.
func (tx *Tx) control(ctx context.Context, sql string) error {
	if err := tx.hold.use(); err != nil {
		return err
	}
	defer tx.hold.done()
	if tx.opened {
		err := tx.s.pg.Exec(ctx, sql).Close()
		if err != nil && tx.s.pg.IsClosed() {
			err = gone(err)
		}
		return tx.status(err)
	}
	r, err := tx.send(ctx, sql, nil)
	if err != nil {
		return err
	}
	r.close()
	return r.err
}

// failed tells whether PostgreSQL takes no more statements in this transaction.
func (tx *Tx) failed() bool {
	if tx.hold.use() != nil {
		return true
	}
	defer tx.hold.done()
	return tx.s.pg.TxStatus() == 'E'
}

// kill ends the transaction with its connection.
func (tx *Tx) kill() {
	tx.hold.mu.Lock()
	defer tx.hold.mu.Unlock()
	if tx.opened && !tx.hold.over.Swap(true) {
		tx.destroy()
	}
}
