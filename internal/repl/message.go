package repl

import "time"

// Message is what Receive returns: one of the types below.
type Message any

type (
	// Begin opens a transaction. What follows up to its Commit belongs to it.
	Begin struct {
		XID      uint32 // of the top-level transaction, without the epoch
		FinalLSN LSN    // where its commit stands
		At       time.Time
	}

	// Commit ends the transaction. Transactions come in the order of their commits.
	Commit struct {
		LSN    LSN
		EndLSN LSN // where streaming goes on after it
		At     time.Time
	}

	// Relation describes a table before the first change to it, and again after its definition has changed.
	Relation struct {
		ID           uint32
		Schema, Name string
		Identity     Identity
		Columns      []Column
	}

	// Insert is a new row.
	Insert struct {
		Relation *Relation
		New      Tuple
	}

	// Update is a row that has changed. Old is nil unless the key has changed or the table's identity is full; Whole says
	// that Old is the full row, otherwise only its key columns are told and the others are null.
	Update struct {
		Relation *Relation
		Old, New Tuple
		Whole    bool
	}

	// Delete is a row that has gone. Whole is as in Update.
	Delete struct {
		Relation *Relation
		Old      Tuple
		Whole    bool
	}

	// Truncate names the tables that were emptied together.
	Truncate struct {
		Relations       []*Relation
		Cascade         bool
		RestartIdentity bool
	}

	// Logical is a message that somebody emitted with pg_logical_emit_message. One that is not transactional stands
	// outside of every transaction.
	Logical struct {
		Transactional bool
		LSN           LSN
		Prefix        string
		Content       []byte
	}

	// Keepalive says how far the server has read its log: nothing before End is to come any more.
	Keepalive struct {
		End   LSN
		Reply bool // the server wants to hear from us now
	}
)

// Identity says which columns of an old row are told.
type Identity byte

// The replica identities of a table.
const (
	IdentityDefault Identity = 'd' // the primary key's
	IdentityNothing Identity = 'n'
	IdentityFull    Identity = 'f'
	IdentityIndex   Identity = 'i'
)

// Column of a Relation.
type Column struct {
	Name     string
	Key      bool // of the replica identity
	Type     uint32
	Modifier int32
}

// Kind of a value.
type Kind byte

// The kinds of a value.
const (
	Null      Kind = 'n'
	Unchanged Kind = 'u' // too long to be stored in the row, and as it was: not told
	Text      Kind = 't'
)

// Value of one column. Text is in the type's output format under the settings of Connect.
type Value struct {
	Kind Kind
	Text []byte
}

// Tuple has a value for each column of its Relation. It is valid until the next Receive.
type Tuple []Value

// Clone is a copy that stays valid.
func (t Tuple) Clone() Tuple {
	if t == nil {
		return nil
	}
	size := 0
	for _, v := range t {
		size += len(v.Text)
	}
	text := make([]byte, 0, size)
	out := make(Tuple, len(t))
	for i, v := range t {
		out[i].Kind = v.Kind
		if v.Kind == Text {
			start := len(text)
			text = append(text, v.Text...)
			out[i].Text = text[start:len(text):len(text)]
		}
	}
	return out
}
