package isolation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Errors of a key that cannot be added under its number.
var (
	// ErrOtherKey reports a number that a database knows with another secret.
	ErrOtherKey = errors.New("the database knows it with another secret")
	// ErrRetired reports a key that has ended. It stays so.
	ErrRetired = errors.New("it is retired")
)

// AddKeys makes the keys of ring known to conn's database. It returns whether any was new. A number that the database knows
// with another secret is ErrOtherKey, a key that it has retired ErrRetired; then none is added.
func AddKeys(ctx context.Context, conn *pgx.Conn, ring Keyring, stamp string) (added bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		added, err = addKeys(ctx, tx, ring, stamp)
		return err
	})
	if err != nil {
		return false, err
	}
	return added, nil
}

func addKeys(ctx context.Context, tx pgx.Tx, ring Keyring, stamp string) (added bool, err error) {
	const insert = `insert into landlord.seal_key (kid, ipad, opad) values ($1, $2, $3) on conflict (kid) do nothing`
	const known = `select ipad = $2 and opad = $3, not_after > clock_timestamp() from landlord.seal_key where kid = $1`
	const age = `insert into landlord.seal_key_age (kid) values ($1) on conflict do nothing`
	aged, err := knowsAges(ctx, tx)
	if err != nil {
		return false, err
	}
	for _, k := range ring {
		ipad, opad := pads(k.forDatabase(stamp))
		tag, err := tx.Exec(ctx, insert, k.ID, ipad, opad)
		if err == nil && tag.RowsAffected() > 0 && aged {
			_, err = tx.Exec(ctx, age, k.ID)
		}
		if err != nil {
			return false, fmt.Errorf("add seal key %d: %w", k.ID, err)
		}
		if tag.RowsAffected() > 0 {
			added = true
			continue
		}
		var same, alive bool
		err = tx.QueryRow(ctx, known, k.ID, ipad, opad).Scan(&same, &alive)
		switch {
		case err != nil:
			return false, fmt.Errorf("add seal key %d: %w", k.ID, err)
		case !same:
			return false, fmt.Errorf("add seal key %d: %w: the keyring is another installation's, or the key file was lost and "+
				"made anew; bring the right one back", k.ID, ErrOtherKey)
		case !alive:
			return false, fmt.Errorf("add seal key %d: %w and stays so: take it out of the keyring ('landlord key retire %[1]d')",
				k.ID, ErrRetired)
		}
	}
	return added, nil
}

// knowsAges tells whether a database keeps since when it knows its keys. One that is to be upgraded does not.
func knowsAges(ctx context.Context, conn db) (aged bool, err error) {
	if err := conn.QueryRow(ctx, `select to_regclass('landlord.seal_key_age') is not null`).Scan(&aged); err != nil {
		return false, fmt.Errorf("look for the ages of seal keys: %w", err)
	}
	return aged, nil
}

// pads returns the inner and the outer block of HMAC-SHA256 for a key of at most 64 bytes.
func pads(key []byte) (ipad, opad []byte) {
	ipad, opad = make([]byte, 64), make([]byte, 64)
	copy(ipad, key)
	copy(opad, key)
	for i := range ipad {
		ipad[i] ^= 0x36
		opad[i] ^= 0x5c
	}
	return ipad, opad
}

// RetireKey ends a key in conn's database after grace, in which transactions already sealed with it still open. It returns
// whether the key was alive.
func RetireKey(ctx context.Context, conn *pgx.Conn, id int, grace time.Duration) (retired bool, err error) {
	const q = `
update landlord.seal_key set not_after = clock_timestamp() + $2 where kid = $1 and not_after > clock_timestamp() + $2`
	tag, err := conn.Exec(ctx, q, id, grace)
	if err != nil {
		return false, fmt.Errorf("retire seal key %d: %w", id, err)
	}
	return tag.RowsAffected() > 0, nil
}

// KeyState is one key as a database knows it.
type KeyState struct {
	ID       int
	Since    time.Time // when the database learned it; zero: the database's objects are too old to tell
	NotAfter time.Time // zero: no end
}

// Keys lists the keys that conn's database knows.
func Keys(ctx context.Context, conn *pgx.Conn) ([]KeyState, error) {
	const q = `select kid, %s, case when isfinite(not_after) then not_after end from landlord.seal_key order by kid`
	since := "null::timestamptz"
	aged, err := knowsAges(ctx, conn)
	if err != nil {
		return nil, err
	}
	if aged {
		since = "(select known_since from landlord.seal_key_age a where a.kid = seal_key.kid)"
	}
	rows, err := conn.Query(ctx, fmt.Sprintf(q, since))
	if err != nil {
		return nil, fmt.Errorf("list seal keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (KeyState, error) {
		var k KeyState
		var since, notAfter *time.Time
		err := row.Scan(&k.ID, &since, &notAfter)
		if since != nil {
			k.Since = *since
		}
		if notAfter != nil {
			k.NotAfter = *notAfter
		}
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("list seal keys: %w", err)
	}
	return keys, nil
}
