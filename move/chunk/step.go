package chunk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A COPY knows no steps: the source sends all that sockets hold, and the target gathers 64 KiB of rows before it writes any of them. So a
// cursor yields some rows at a time, and the target gets those as a COPY of its own. What a cursor yields are the very values that a COPY
// is made of.

// carry brings a chunk from one server to the other by steps.
func (c *copier) carry(ctx context.Context, source, target *pgx.Conn, j job, e *entry) (gone Progress, err error) {
	err = c.view(ctx, source, reading, e, func(pgx.Tx) error {
		return pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
			if gone, err = c.prepare(ctx, tx, j); err != nil {
				return err
			}
			if err := c.steps(ctx, source, target, j, e); err != nil {
				return err
			}
			return e.write(ctx, tx, c.Move, j.pair.Source.Name)
		})
	})
	return gone, err
}

func (c *copier) steps(ctx context.Context, source, target *pgx.Conn, j job, e *entry) error {
	q := rowsOf(j.pair, j.bounds)
	kind := map[bool]string{true: "binary"}[q.binary]
	_, err := source.Exec(ctx, "set local cursor_tuple_fraction = 1; declare landlord_rows "+kind+" no scroll cursor for "+q.query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("read from the source: %w", err)
	}
	s := step{binary: q.binary}
	write := func() error {
		if s.rows == 0 {
			return nil
		}
		data := s.end()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		tag, err := target.PgConn().CopyFrom(ctx, &pacedReader{pace: c.pace, ctx: ctx, data: data}, q.into())
		if err != nil {
			return fmt.Errorf("write to the target: %w", err)
		}
		e.rows, e.bytes = e.rows+tag.RowsAffected(), e.bytes+int64(len(data))
		s.clear()
		return nil
	}
	for want := c.rowsInStep(j.width); ; {
		got, size := int64(0), int64(0)
		result := source.PgConn().Exec(ctx, fmt.Sprintf("fetch %d from landlord_rows", want))
		for result.NextResult() {
			for rows := result.ResultReader(); rows.NextRow(); got++ {
				size += s.add(rows.Values())
				if int64(len(s.data)) < c.pace.step {
					continue
				}
				if err := write(); err != nil {
					return errors.Join(err, result.Close())
				}
			}
		}
		if err := result.Close(); err != nil {
			return fmt.Errorf("read from the source: %w", err)
		}
		if got < want {
			break
		}
		want = min(c.rowsInStep(size/got), 4*want) // rows may be narrower than was thought
	}
	if err := write(); err != nil {
		return err
	}
	_, err = source.Exec(ctx, "close landlord_rows")
	return err
}

// rowsInStep is how many rows of so many bytes are a step.
func (c *copier) rowsInStep(width int64) int64 {
	return max(1, min(c.pace.step/max(width, 1), mostInStep))
}

// step are rows in the form in which a COPY takes them.
type step struct {
	binary bool
	rows   int64
	data   []byte
}

// What a binary COPY begins and ends with: the signature, no flags and no extension, and no more rows.
const (
	binaryHead = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	binaryEnd  = "\xff\xff"
)

// escaped are the characters that mean something else in a COPY in text form.
var escaped = strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// add puts a row in, and returns how many bytes it takes.
func (s *step) add(values [][]byte) int64 {
	if s.binary && s.rows == 0 {
		s.data = append(s.data, binaryHead...)
	}
	before := len(s.data)
	if s.binary {
		s.data = binary.BigEndian.AppendUint16(s.data, uint16(len(values)))
	}
	for i, v := range values {
		switch {
		case s.binary && v == nil:
			s.data = binary.BigEndian.AppendUint32(s.data, 1<<32-1)
		case s.binary:
			s.data = append(binary.BigEndian.AppendUint32(s.data, uint32(len(v))), v...)
		default:
			if i > 0 {
				s.data = append(s.data, '\t')
			}
			if v == nil {
				s.data = append(s.data, `\N`...)
			} else {
				s.data = append(s.data, escaped.Replace(string(v))...)
			}
		}
	}
	if !s.binary {
		s.data = append(s.data, '\n')
	}
	s.rows++
	return int64(len(s.data) - before)
}

// end returns all of it.
func (s *step) end() []byte {
	if s.binary {
		s.data = append(s.data, binaryEnd...)
	}
	return s.data
}

func (s *step) clear() { s.rows, s.data = 0, s.data[:0] }
