// Package repl reads a PostgreSQL server's stream of changes.
//
// It is a client of the replication protocol for logical slots of the plugin pgoutput: it makes a slot, starts to stream,
// decodes what arrives, and tells the server how far it may forget. It guarantees that a message is whole and fits the
// tables described before it, and that a connection on which the server has fallen silent is noticed. Reconnecting, and
// remembering how far changes were applied, are left to the caller; so is the making of the publication, which must
// exist before the slot.
package repl

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// defaultPatience is long enough for a server that is busy, and short enough for a slot to be free again soon.
const defaultPatience = 20 * time.Second

// ErrSilent reports a server that has not been heard of for Conn.Patience, although it was asked to answer.
var ErrSilent = errors.New("the server is silent: connect again")

// ErrEnded reports that the server has ended the stream, as it does when it shuts down.
var ErrEnded = errors.New("the server has ended the stream: connect again")

// settings of the session decide how values are written; the time-outs would end a connection that waits for changes.
var settings = map[string]string{
	"replication":                         "database",
	"application_name":                    "landlord move",
	"client_encoding":                     "UTF8",
	"datestyle":                           "ISO",
	"intervalstyle":                       "postgres",
	"extra_float_digits":                  "3",
	"bytea_output":                        "hex",
	"lc_monetary":                         "C",
	"timezone":                            "UTC",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_session_timeout":                "0",
	"idle_in_transaction_session_timeout": "0",
}

// Conn is a replication connection to one database. Until Start it takes commands; then it streams. One goroutine may
// Receive while another one calls Acknowledge; nothing else may be called at once.
type Conn struct {
	// Patience is how long the server may be silent before the connection counts as lost, and the server's patience with
	// us: the slot is free again at most that long after we have vanished. Set before Start; 0: 20 seconds.
	Patience time.Duration
	// Busy, if not nil, tells that what arrives now will not be looked at for a while. Then a moment passes before more is read: the
	// server sends each message by itself, and to be woken for each costs both sides more than the message does. Set before Start.
	Busy func() bool

	commands *pgconn.PgConn // until Start
	net      net.Conn
	front    *pgproto3.Frontend
	decoder  Decoder
	ear      *ear
	asked    time.Time       // for a sign of life; Receive's own, as is what follows
	waited   context.Context //nolint:containedctx // of the last Receive, whose end ends its reading
	unwait   func() bool
	limited  time.Time // when the time for reading was last set

	mu      sync.Mutex // guards what is sent
	flushed LSN        // acknowledged so far
	told    time.Time  // when the server last heard so
}

// Connect opens a replication connection to the database of cfg, whose login must be a superuser or have REPLICATION.
// It must lead to the server itself, not to a pooler.
func Connect(ctx context.Context, cfg *pgx.ConnConfig) (*Conn, error) {
	c := cfg.Config.Copy()
	if c.RuntimeParams == nil {
		c.RuntimeParams = map[string]string{}
	}
	maps.Copy(c.RuntimeParams, settings)
	var hears *ear
	c.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		hears = &ear{r: r, drained: true}
		return pgproto3.NewFrontend(bufio.NewReaderSize(hears, 64<<10), w)
	}
	commands, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open a replication connection: %w", err)
	}
	return &Conn{commands: commands, ear: hears}, nil
}

// ear remembers when the server was heard last: a large row is long on its way.
type ear struct {
	r       io.Reader
	heard   time.Time
	drained bool // nothing was left to be read the last time
	busy    func() bool
}

// moment is how long a busy reader lets messages gather.
const moment = time.Millisecond

func (e *ear) Read(p []byte) (int, error) {
	if e.drained && e.busy != nil && e.busy() {
		time.Sleep(moment)
	}
	n, err := e.r.Read(p)
	e.drained = n < len(p)
	if n > 0 {
		e.heard = time.Now()
	}
	return n, err
}

// NextXID is the server's next transaction id, with its epoch.
func (c *Conn) NextXID(ctx context.Context) (uint64, error) {
	rows, err := c.query(ctx, `select pg_snapshot_xmax(pg_current_snapshot())`)
	if err != nil {
		return 0, fmt.Errorf("read the next transaction id: %w", err)
	}
	return strconv.ParseUint(string(rows[0][0]), 10, 64)
}

// Start begins to stream the changes of publication that were committed after from, or after what was acknowledged last
// if that is later. A slot that cannot be read any more is ErrSlotLost, one that somebody reads a *SlotActiveError. After
// what the server refuses, the connection takes commands as before; after another error it is closed.
func (c *Conn) Start(ctx context.Context, slot string, from LSN, publication string) error {
	q := fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (proto_version '1', publication_names %s, messages 'true')",
		pgx.Identifier{slot}.Sanitize(), from, literal(pgx.Identifier{publication}.Sanitize()))
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if _, err := c.query(ctx, fmt.Sprintf("set wal_sender_timeout = %d", c.Patience.Milliseconds())); err != nil {
		return fmt.Errorf("stream from slot %s: %w", slot, err)
	}
	front := c.commands.Frontend()
	front.SendQuery(&pgproto3.Query{String: q})
	err := front.Flush()
	for err == nil {
		var msg pgproto3.BackendMessage
		if msg, err = c.commands.ReceiveMessage(ctx); err != nil {
			break
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return c.stream(from)
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(msg)
			c.finish(ctx)
			return fmt.Errorf("stream from slot %s: %w", slot, c.slotError(ctx, slot, err))
		}
	}
	return errors.Join(fmt.Errorf("stream from slot %s: %w", slot, err), c.Close(ctx))
}

// finish reads to the end of a command that has failed, so that another one can be sent.
func (c *Conn) finish(ctx context.Context) {
	for {
		msg, err := c.commands.ReceiveMessage(ctx)
		if _, ready := msg.(*pgproto3.ReadyForQuery); ready || err != nil {
			return
		}
	}
}

// stream takes the connection away from pgconn, which knows nothing of a stream in both directions.
func (c *Conn) stream(from LSN) error {
	hijacked, err := c.commands.Hijack()
	if err != nil {
		return fmt.Errorf("begin to stream: %w", err)
	}
	c.net, c.front = hijacked.Conn, hijacked.Frontend
	c.ear.busy = c.Busy
	c.flushed, c.told = from, time.Now()
	return nil
}

// Receive returns the next message. While it waits, the server is asked for signs of life; a context that ends leaves the
// connection as it is, and the next call goes on. After any other error the connection is of no use: ErrSilent, ErrEnded,
// what the network or the server said, or ErrMessage.
func (c *Conn) Receive(ctx context.Context) (Message, error) {
	c.wait(ctx)
	for {
		data, err := c.read(ctx)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		msg, err := c.message(data)
		if msg != nil || err != nil {
			return msg, err
		}
	}
}

// wait has the end of ctx end the reading. Mostly it is the same as the last time.
func (c *Conn) wait(ctx context.Context) {
	if c.waited == ctx {
		return
	}
	if c.unwait != nil {
		c.unwait()
	}
	c.waited, c.limited = ctx, time.Time{}
	c.unwait = context.AfterFunc(ctx, func() { _ = c.net.SetReadDeadline(time.Unix(1, 0)) })
}

// read returns the next piece of the stream, or nil if there was none for a while.
func (c *Conn) read(ctx context.Context) ([]byte, error) {
	// Many messages come in a moment: the time of one is good enough for the next ones.
	if now := time.Now(); now.Sub(c.limited) > c.Patience/50 {
		if err := c.net.SetReadDeadline(now.Add(c.Patience / 4)); err != nil {
			return nil, fmt.Errorf("read the stream: %w", err)
		}
		c.limited = now
		if err := c.sign(now); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil { // it may have ended before the deadline was set
		return nil, context.Cause(ctx)
	}
	msg, err := c.front.Receive()
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			c.limited = time.Time{}
			return nil, c.silence()
		}
		return nil, fmt.Errorf("read the stream: %w", err)
	}
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return msg.Data, nil
	case *pgproto3.ErrorResponse:
		return nil, fmt.Errorf("read the stream: %w", pgconn.ErrorResponseToPgError(msg))
	case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
		return nil, ErrEnded
	}
	return nil, nil // notices, changed settings
}

// sign tells a server that has much to say, and so never asks, that somebody listens: it would hang up otherwise.
func (c *Conn) sign(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.told) < c.Patience/4 {
		return nil
	}
	return c.send(c.flushed, false)
}

// silence is what to think of a server that has said nothing for a while.
func (c *Conn) silence() error {
	now, heard := time.Now(), c.ear.heard
	switch {
	case now.Sub(heard) < c.Patience/5:
		return nil // still arriving; or a context has ended
	case c.asked.After(heard) && now.Sub(heard) > c.Patience:
		return ErrSilent
	}
	c.asked = now
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.send(c.flushed, true)
}

func (c *Conn) message(data []byte) (Message, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrMessage)
	}
	r := &reader{rest: data[1:]}
	switch data[0] {
	case 'w':
		r.bytes(8 + 8 + 8) // positions and time, which the message itself tells better
		if r.short {
			return nil, fmt.Errorf("%w: its header is cut short", ErrMessage)
		}
		return c.decoder.Decode(r.rest)
	case 'k':
		k := Keepalive{End: LSN(r.uint64())}
		r.bytes(8) // the server's clock
		k.Reply = r.byte() == 1
		if r.short {
			return nil, fmt.Errorf("%w: a keepalive is cut short", ErrMessage)
		}
		return k, nil
	}
	return nil, fmt.Errorf("%w: %q in the stream", ErrMessage, data[0])
}

// Acknowledge tells the server that nothing before flushed is needed any more. A position below an earlier one is told as the
// earlier one. While nobody calls Receive, it must be called at least every Patience/2, however little there is to tell.
func (c *Conn) Acknowledge(ctx context.Context, flushed LSN) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushed = max(c.flushed, flushed)
	return c.send(c.flushed, false)
}

// send is called under mu.
func (c *Conn) send(flushed LSN, reply bool) error {
	b := make([]byte, 0, 34)
	b = append(b, 'r')
	for range 3 { // written, flushed, applied
		b = binary.BigEndian.AppendUint64(b, uint64(flushed))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(epoch).Microseconds()))
	if reply {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	err := c.net.SetWriteDeadline(time.Now().Add(c.Patience))
	if err == nil {
		err = c.front.SendUnbufferedEncodedCopyData(frame(b))
	}
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	c.told = time.Now()
	return nil
}

// frame makes a CopyData message of b.
func frame(b []byte) []byte {
	out, _ := (&pgproto3.CopyData{Data: b}).Encode(nil) // fails for more than a gigabyte only
	return out
}

// Close ends the connection. The server lets the slot go when it notices, which may take a moment.
func (c *Conn) Close(ctx context.Context) error {
	if c.unwait != nil {
		c.unwait()
	}
	if c.net == nil {
		return c.commands.Close(ctx)
	}
	_ = c.net.SetWriteDeadline(time.Now().Add(time.Second))
	terminate, _ := (&pgproto3.Terminate{}).Encode(nil)
	_, _ = c.net.Write(terminate) // a courtesy: the server notices the end of the connection too
	return c.net.Close()
}

// literal quotes s for a command of the replication grammar.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
