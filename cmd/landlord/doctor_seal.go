package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

const (
	// keyTooOld is when the key that services seal with should have a successor.
	keyTooOld = 365 * 24 * time.Hour
	// rotationTooLong is when a rotation counts as forgotten: the older key still opens what it always opened.
	rotationTooLong = 30 * 24 * time.Hour
)

// nobody is a tenant that cannot exist: its home has no place in any cluster.
var nobody = isolation.Entry{Tenant: "landlord doctor", Home: "-/-/-", Epoch: 1}

// fixGrants makes landlord's grants anew: init leaves those alone of a database whose objects claim to be of its release.
const fixGrants = "'landlord audit' names what was changed; in that database: update landlord.identity set checksum = ''; then: landlord init"

// errUndone ends a transaction that was only to show something.
var errUndone = errors.New("undone")

// register tries to write where policies read the tenant. The application must not be able to.
func (x *databaseCheck) register(ctx context.Context, conn *pgx.Conn, mode isolation.Mode) error {
	attempt := registerAttempt(mode)
	if attempt == "" {
		return nil
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, attempt)
	switch {
	case err == nil:
		x.find("take from login "+x.db.Login+" whatever was granted to it beyond landlord's grants, then: landlord init",
			"the application can choose its tenant itself (%s)", attempt)
	case !pgerr.Is(err, pgerr.InsufficientPrivilege):
		return err
	}
	return tx.Rollback(ctx)
}

// registerAttempt is what would let the application choose its tenant, in the modes that forbid it. The others let the register be
// written, and check or trust it.
func registerAttempt(mode isolation.Mode) string {
	return map[isolation.Mode]string{
		isolation.Sealed: `set local backtrace_functions = 't_00'`,
		isolation.Locked: `select set_config('landlord.tenant', 'landlord doctor', true)`,
	}[mode]
}

// selfTest enters, with the application's rights, a tenant that is made up for one transaction and gone with it: the guard must be able
// to write the register, and what policies read must be what it wrote.
func (x *databaseCheck) selfTest(ctx context.Context, conn *pgx.Conn) error {
	id, err := isolation.ReadIdentity(ctx, conn)
	if err != nil {
		return err
	}
	sealer, err := isolation.NewSealer(id.Mode, x.ring, id.Stamp)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		const fence = `insert into landlord.fence (tenant, home, slug, model, epoch, state) values ($1, $2, 'landlord-doctor', 'shared', $3, 'open')`
		if _, err := tx.Exec(ctx, fence, nobody.Tenant, nobody.Home, nobody.Epoch); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "set local role "+pgx.Identifier{x.db.Login}.Sanitize()); err != nil {
			return err
		}
		err := enterHome(ctx, conn, sealer, nobody, id.Clock)
		switch {
		case pgerr.Is(err, pgerr.InsufficientPrivilege):
			x.find(fixGrants, "nobody can enter a tenant: %v", err)
			return errUndone
		case pgerr.Is(err, pgerr.BadSeal): // which key it does not know has been said
			return errUndone
		case err != nil:
			return err
		}
		var reads string
		err = tx.QueryRow(ctx, `select landlord.tenant()`).Scan(&reads)
		switch {
		case err != nil && !pgerr.Is(err, pgerr.NoTenant):
			return err
		case reads != nobody.Tenant:
			x.find("landlord init; 'landlord audit' names what else was changed", "the seal does not hold: who enters tenant %q is %q to the policies", nobody.Tenant, reads)
		}
		return errUndone
	})
	if errors.Is(err, errUndone) {
		return nil
	}
	return err
}

// keyAges finds a key that has served too long, and a rotation that nobody has finished.
func (d *doctor) keyAges() {
	if len(d.ring) == 0 {
		return // found already
	}
	age := func(id int) time.Duration {
		if since, ok := d.keySince[id]; ok {
			return time.Since(since)
		}
		return 0 // no database that was reached can tell
	}
	newest := d.ring[len(d.ring)-1]
	if a := age(newest.ID); a > keyTooOld {
		d.warn("keys", fmt.Sprintf("landlord key add; give the file to every service; then: landlord key retire %d", newest.ID),
			"services have sealed with key %d for %d days", newest.ID, days(a))
	}
	successor := age(newest.ID)
	for _, k := range d.ring[:len(d.ring)-1] {
		if successor > rotationTooLong {
			d.warn("keys", fmt.Sprintf("see that every service has the file; then: landlord key retire %d", k.ID),
				"key %d still opens every tenant, %d days after key %d was made", k.ID, days(successor), newest.ID)
		}
	}
}

func days(d time.Duration) int { return int(d.Hours() / 24) }
