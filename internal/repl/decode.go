package repl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ErrMessage reports a message that is not pgoutput's, is cut short, or contradicts what came before it.
var ErrMessage = errors.New("malformed replication message")

// Decoder reads pgoutput's messages, protocol version 1. It keeps the tables it was told about; the zero value knows none.
// What it is given is checked, never trusted: a message that cannot be right is ErrMessage.
type Decoder struct {
	relations map[uint32]*Relation
	row, old  Tuple // reused by every message
}

// Decode reads one message. The result refers to data, and is valid until the next call. It is nil for those messages
// that tell nothing of use here (types, origins).
func (d *Decoder) Decode(data []byte) (Message, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrMessage)
	}
	r := &reader{rest: data[1:]}
	msg, err := d.decode(data[0], r)
	switch {
	case err != nil:
		return nil, err
	case r.short:
		return nil, fmt.Errorf("%w: %q is cut short", ErrMessage, data[0])
	case len(r.rest) > 0:
		return nil, fmt.Errorf("%w: %q has %d bytes too many", ErrMessage, data[0], len(r.rest))
	}
	if rel, ok := msg.(*Relation); ok {
		if d.relations == nil {
			d.relations = map[uint32]*Relation{}
		}
		d.relations[rel.ID] = rel
	}
	return msg, nil
}

func (d *Decoder) decode(kind byte, r *reader) (Message, error) {
	switch kind {
	case 'B':
		return Begin{FinalLSN: LSN(r.uint64()), At: r.time(), XID: r.uint32()}, nil
	case 'C':
		r.byte() // flags: none are defined
		return Commit{LSN: LSN(r.uint64()), EndLSN: LSN(r.uint64()), At: r.time()}, nil
	case 'R':
		return r.relation()
	case 'I':
		return d.insert(r)
	case 'U':
		return d.update(r)
	case 'D':
		return d.delete(r)
	case 'T':
		return d.truncate(r)
	case 'M':
		m := Logical{Transactional: r.byte()&1 != 0, LSN: LSN(r.uint64()), Prefix: r.string()}
		m.Content = r.bytes(int(r.uint32()))
		return m, nil
	case 'O', 'Y':
		r.rest = nil
		return nil, nil
	}
	return nil, fmt.Errorf("%w: of the unknown kind %q", ErrMessage, kind)
}

func (d *Decoder) relation(r *reader) (*Relation, error) {
	id := r.uint32()
	if rel, ok := d.relations[id]; ok || r.short {
		return rel, nil
	}
	return nil, fmt.Errorf("%w: a change to table %d, which was not described", ErrMessage, id)
}

func (d *Decoder) insert(r *reader) (Message, error) {
	rel, err := d.relation(r)
	if err != nil {
		return nil, err
	}
	if err := r.expect('N'); err != nil {
		return nil, err
	}
	d.row, err = r.tuple(rel, d.row)
	return Insert{Relation: rel, New: d.row}, err
}

func (d *Decoder) update(r *reader) (Message, error) {
	rel, err := d.relation(r)
	if err != nil {
		return nil, err
	}
	msg := Update{Relation: rel}
	kind := r.byte()
	if kind == 'K' || kind == 'O' {
		if d.old, err = r.tuple(rel, d.old); err != nil {
			return nil, err
		}
		msg.Old, msg.Whole = d.old, kind == 'O'
		kind = r.byte()
	}
	if kind != 'N' && !r.short {
		return nil, fmt.Errorf("%w: an update without its new row", ErrMessage)
	}
	d.row, err = r.tuple(rel, d.row)
	msg.New = d.row
	return msg, err
}

func (d *Decoder) delete(r *reader) (Message, error) {
	rel, err := d.relation(r)
	if err != nil {
		return nil, err
	}
	kind := r.byte()
	if kind != 'K' && kind != 'O' && !r.short {
		return nil, fmt.Errorf("%w: a deletion without its old row", ErrMessage)
	}
	d.old, err = r.tuple(rel, d.old)
	return Delete{Relation: rel, Old: d.old, Whole: kind == 'O'}, err
}

func (d *Decoder) truncate(r *reader) (Message, error) {
	n := r.uint32()
	options := r.byte()
	if uint64(n)*4 != uint64(len(r.rest)) {
		return nil, fmt.Errorf("%w: a truncation of %d tables in %d bytes", ErrMessage, n, len(r.rest))
	}
	msg := Truncate{Cascade: options&1 != 0, RestartIdentity: options&2 != 0}
	for range n {
		rel, err := d.relation(r)
		if err != nil {
			return nil, err
		}
		msg.Relations = append(msg.Relations, rel)
	}
	return msg, nil
}

// reader takes a message apart. What is missing is read as zero, and sets short.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.short, r.rest = true, nil
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// epoch is where PostgreSQL begins to count.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *reader) time() time.Time {
	micros := int64(r.uint64())
	return time.UnixMicro(epoch.UnixMicro() + micros).UTC()
}

func (r *reader) string() string {
	end := bytes.IndexByte(r.rest, 0)
	if end < 0 {
		r.short, r.rest = true, nil
		return ""
	}
	s := string(r.rest[:end])
	r.rest = r.rest[end+1:]
	return s
}

func (r *reader) expect(kind byte) error {
	if got := r.byte(); got != kind && !r.short {
		return fmt.Errorf("%w: %q where %q must stand", ErrMessage, got, kind)
	}
	return nil
}

func (r *reader) relation() (*Relation, error) {
	rel := &Relation{ID: r.uint32(), Schema: r.string(), Name: r.string(), Identity: Identity(r.byte())}
	if rel.Schema == "" {
		rel.Schema = "pg_catalog" // so pgoutput abbreviates it
	}
	n := int(r.uint16())
	const least = 1 + 1 + 4 + 4 // bytes of a column without a name
	if n*least > len(r.rest) {
		return nil, fmt.Errorf("%w: a table of %d columns in %d bytes", ErrMessage, n, len(r.rest))
	}
	rel.Columns = make([]Column, n)
	for i := range rel.Columns {
		rel.Columns[i] = Column{Key: r.byte()&1 != 0, Name: r.string(), Type: r.uint32(), Modifier: int32(r.uint32())}
	}
	return rel, nil
}

// tuple reads a row into t, whose space it takes over.
func (r *reader) tuple(rel *Relation, t Tuple) (Tuple, error) {
	t = t[:0]
	n := int(r.uint16())
	if r.short {
		return t, nil
	}
	if n != len(rel.Columns) {
		return nil, fmt.Errorf("%w: a row of %d values for the %d columns of %s.%s", ErrMessage, n, len(rel.Columns), rel.Schema, rel.Name)
	}
	for range n {
		v := Value{Kind: Kind(r.byte())}
		switch v.Kind {
		case Null, Unchanged:
		case Text:
			v.Text = r.bytes(int(r.uint32()))
		default:
			if !r.short {
				return nil, fmt.Errorf("%w: a value of the unknown kind %q", ErrMessage, v.Kind)
			}
		}
		t = append(t, v)
	}
	return t, nil
}
