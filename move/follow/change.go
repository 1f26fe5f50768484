package follow

import (
	"encoding/binary"
	"fmt"

	"github.com/landlord-go/landlord/internal/repl"
)

// act is what a change does to the target.
type act byte

const (
	put    act = iota // the row is there, as told; values that are not told have to be asked for
	patch             // the row keeps those of its values that are not told
	drop              // the row is gone
	rename            // the row has another key, and keeps those of its values that are not told
)

// change is one change to one row.
type change struct {
	target *target
	xid    uint64
	act    act
	old    repl.Tuple // key: drop, rename
	row    repl.Tuple // put, patch, rename: of the columns target.values
}

// whole tells whether all of the row's values are told.
func whole(row repl.Tuple) bool {
	for _, v := range row {
		if v.Kind == repl.Unchanged {
			return false
		}
	}
	return true
}

// size is about how much memory the change takes.
func (c change) size() int {
	n := 128 + 32*(len(c.row)+len(c.old))
	for _, v := range c.row {
		n += len(v.Text)
	}
	for _, v := range c.old {
		n += len(v.Text)
	}
	return n
}

// relation is a table as the stream describes it, and which of its columns are used.
type relation struct {
	target *target
	values []int // place in the stream's row of each of target.values
	key    []int // of each of target.key
}

// insert, update and delete are what the stream tells, as changes.

func (r *relation) insert(xid uint64, m repl.Insert) ([]change, error) {
	if err := r.check(m.Relation, m.New); err != nil {
		return nil, err
	}
	return []change{{target: r.target, xid: xid, act: put, row: pick(m.New, r.values)}}, nil
}

// check refuses a row whose key is not told.
func (r *relation) check(told *repl.Relation, row repl.Tuple) error {
	for _, i := range r.key {
		if row[i].Kind != repl.Text {
			return fmt.Errorf("%w: a row of %s without its key", repl.ErrMessage, told.Name)
		}
	}
	return nil
}

func (r *relation) update(xid uint64, m repl.Update) ([]change, error) {
	if m.Old != nil {
		for i, v := range m.New {
			if v.Kind == repl.Unchanged && (m.Whole || m.Relation.Columns[i].Key) {
				m.New[i] = m.Old[i]
			}
		}
	}
	if err := r.check(m.Relation, m.New); err != nil {
		return nil, err
	}
	c := change{target: r.target, xid: xid, act: patch, row: pick(m.New, r.values)}
	if whole(c.row) {
		c.act = put
	}
	if m.Old == nil || r.sameKey(m.Old, m.New) {
		return []change{c}, nil
	}
	old := pick(m.Old, r.key)
	if c.act == put {
		return []change{{target: r.target, xid: xid, act: drop, old: old}, c}, nil
	}
	c.act, c.old = rename, old
	return []change{c}, nil
}

func (r *relation) delete(xid uint64, m repl.Delete) []change {
	return []change{{target: r.target, xid: xid, act: drop, old: pick(m.Old, r.key)}}
}

func (r *relation) sameKey(a, b repl.Tuple) bool {
	for _, i := range r.key {
		if string(a[i].Text) != string(b[i].Text) {
			return false
		}
	}
	return true
}

// pick copies some columns of a row out of the stream.
func pick(t repl.Tuple, columns []int) repl.Tuple {
	size := 0
	for _, i := range columns {
		size += len(t[i].Text)
	}
	text := make([]byte, 0, size)
	out := make(repl.Tuple, len(columns))
	for n, i := range columns {
		out[n].Kind = t[i].Kind
		if t[i].Kind == repl.Text {
			start := len(text)
			text = append(text, t[i].Text...)
			out[n].Text = text[start:len(text):len(text)]
		}
	}
	return out
}

// identity is a key as one string.
func identity(key repl.Tuple) string {
	size := 0
	for _, v := range key {
		size += 4 + len(v.Text)
	}
	b := make([]byte, 0, size)
	for _, v := range key {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v.Text)))
		b = append(b, v.Text...)
	}
	return string(b)
}
