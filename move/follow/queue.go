package follow

import (
	"context"
	"sync"
	"time"

	"github.com/landlord-go/landlord/internal/repl"
)

// piece is a transaction of the source, or part of a large one.
type piece struct {
	changes []change
	bytes   int
	end     repl.LSN // where streaming goes on after the transaction; 0: more of it is to come
	marks   []position

	transactions int       // that end in it
	at           time.Time // when the first of them was committed
}

// add appends the transactions of next.
func (p *piece) add(next piece) {
	p.changes = append(p.changes, next.changes...)
	p.bytes += next.bytes
	p.transactions += next.transactions
	p.end, p.marks = next.end, next.marks
}

// position is a message that was met at the end of a piece.
type position struct {
	token string
	at    repl.LSN
}

// Bounds of what is held in memory: a piece is cut at pieceBytes, and the queue takes no more above queueBytes. One row may be
// larger than both.
const (
	pieceBytes = 8 << 20
	queueBytes = 32 << 20
)

// queue lies between who reads the stream and who applies it: one puts, one takes.
type queue struct {
	batch  int
	pieces chan piece
	held   *piece        // taken, and put back
	freed  chan struct{} // something was taken

	mu   sync.Mutex // guards used
	used int        // bytes that are queued
}

func newQueue(batch int) *queue {
	return &queue{batch: batch, pieces: make(chan piece, 4*batch), freed: make(chan struct{}, 1)}
}

// put waits while the queue is full.
func (q *queue) put(ctx context.Context, p piece) error {
	for !q.reserve(p.bytes) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.freed:
		}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case q.pieces <- p:
		return nil
	}
}

func (q *queue) reserve(bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used >= queueBytes {
		return false
	}
	q.used += bytes
	return true
}

// busy tells whether something waits to be applied.
func (q *queue) busy() bool { return len(q.pieces) > 0 }

// wait takes the next piece.
func (q *queue) wait(ctx context.Context) (piece, error) {
	if q.held != nil {
		p := *q.held
		q.held = nil
		return p, nil
	}
	select {
	case <-ctx.Done():
		return piece{}, context.Cause(ctx)
	case p := <-q.pieces:
		q.free(p.bytes)
		return p, nil
	}
}

func (q *queue) free(bytes int) {
	q.mu.Lock()
	q.used -= bytes
	q.mu.Unlock()
	select {
	case q.freed <- struct{}{}:
	default: // told already
	}
}

// next waits for something and returns what can be applied together: whole transactions, up to one with marks, or one part of
// a large transaction.
func (q *queue) next(ctx context.Context) (piece, error) {
	all, err := q.wait(ctx)
	if err != nil {
		return piece{}, err
	}
	for all.end != 0 && len(all.marks) == 0 && len(all.changes) < q.batch && all.bytes < pieceBytes {
		select {
		case p := <-q.pieces:
			q.free(p.bytes)
			if p.end == 0 { // begins a large transaction, which is applied by itself
				q.held = &p
				return all, nil
			}
			all.add(p)
		default:
			return all, nil
		}
	}
	return all, nil
}
