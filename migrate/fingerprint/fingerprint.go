// Package fingerprint says in 32 bytes what a home is made of, and in words where two homes differ.
//
// It guarantees that two homes of one model which were built from the same files have the same fingerprint, whatever their
// schemas, tenants and application logins are called, and that two fingerprints differ when any object does: tables, columns,
// constraints, indexes, policies, triggers, rules, views, sequences, routines, types, statistics, grants, default privileges, and
// the comments that give a table its class. A home in a schema and one in a database of its own count as one model; a shared home
// has other policies and grants.
//
// Not part of it are rows, the order of columns, what a table's storage is tuned to (storage parameters, tablespaces, statistics
// targets), comments of other kinds, and what extensions own. Fingerprints compare within one major version of PostgreSQL, since
// it is the server that writes expressions down.
//
// What a home should be made of, and at which version, is left to package drift.
package fingerprint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
)

// ErrNoSchema reports a home whose schema does not exist.
var ErrNoSchema = errors.New("the schema does not exist")

// ErrBusy reports a home in which somebody has locked what must be read.
var ErrBusy = errors.New("somebody has locked a table there: try again when they have done")

// Home is one home in a database.
type Home struct {
	Schema string
	Tenant string // its owner's id, which the policies name; empty in a shared home
}

// Fingerprint is the sum of a home's objects. Fingerprints can be compared with ==.
type Fingerprint [sha256.Size]byte

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// add takes an object in. Objects come in no order, so the hashes of all are added up, which needs no memory for any.
func (f *Fingerprint) add(o Object) {
	h := sha256.New()
	for _, s := range []string{o.Kind, o.of, o.name, o.Definition} {
		h.Write(binary.AppendUvarint(nil, uint64(len(s)))) // a hash takes everything
		h.Write([]byte(s))
	}
	sum := h.Sum(nil)
	for i := 0; i < len(sum); i += 8 {
		lane := f[i : i+8]
		binary.BigEndian.PutUint64(lane, binary.BigEndian.Uint64(lane)+binary.BigEndian.Uint64(sum[i:]))
	}
}

// Object is a part of a home. In its definition {home} stands for the home's schema, {tenant} for its tenant and {app} for the
// application's login.
type Object struct {
	Kind       string // "table", "column", ...
	Name       string // as in SQL without the schema, such as orders.total; {home} for the schema's own grants
	Definition string

	of, name string // the relation that it is part of, if any, and its own name
}

// Of returns the fingerprint of the home that these objects are all of.
func Of(objects []Object) (f Fingerprint) {
	for _, o := range objects {
		f.add(o)
	}
	return f
}
