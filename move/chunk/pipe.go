package chunk

import (
	"errors"
	"io"
)

// A pipe holds up to pipeBlocks blocks of pipeBlock bytes between who reads from the source and who writes to the target: PostgreSQL
// sends row by row, and each would otherwise cost two a meeting. A block is what pgconn's CopyFrom sends as one message of 64 KiB.
const pipeBlock, pipeBlocks = 64<<10 - len("dsize"), 16

// errAbandoned is what a writer gets whose reader has left.
var errAbandoned = errors.New("nobody reads any more")

// pipe is for one writer and one reader.
type pipe struct {
	full  chan []byte
	empty chan []byte
	left  <-chan struct{} // closed: the reader has left

	writing []byte // the writer's
	bytes   int64  // that the reader has taken
	rest    []byte // the reader's, and the block it is part of
	block   []byte
	err     error // of the writer; set before full is closed
}

// newPipe makes a pipe whose reader leaves when left is closed.
func newPipe(left <-chan struct{}) *pipe {
	p := &pipe{full: make(chan []byte, pipeBlocks), empty: make(chan []byte, pipeBlocks), left: left}
	for range pipeBlocks {
		p.empty <- nil // made when it is needed
	}
	return p
}

// Write takes b in. It waits while the pipe is full.
func (p *pipe) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if p.writing == nil {
			select {
			case p.writing = <-p.empty:
			case <-p.left:
				return n, errAbandoned
			}
			if p.writing == nil {
				p.writing = make([]byte, 0, pipeBlock)
			}
		}
		took := copy(p.writing[len(p.writing):pipeBlock], b)
		p.writing = p.writing[:len(p.writing)+took]
		b, n = b[took:], n+took
		if len(p.writing) == pipeBlock {
			p.full <- p.writing // has room for all blocks there are
			p.writing = nil
		}
	}
	return n, nil
}

// finish tells the reader that nothing more comes, or that what it has is not all.
func (p *pipe) finish(err error) {
	if err == nil {
		err = io.EOF
		if len(p.writing) > 0 {
			p.full <- p.writing
		}
	}
	p.err = err
	close(p.full)
}

// Read waits for at least a byte.
func (p *pipe) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		if p.block != nil {
			p.empty <- p.block[:0]
		}
		block, ok := <-p.full
		if p.block = block; !ok {
			return 0, p.err
		}
		p.rest = block
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	p.bytes += int64(n)
	return n, nil
}

// drain reads what is left, for nobody.
func (p *pipe) drain() {
	if p.block != nil {
		p.empty <- p.block[:0]
	}
	for block := range p.full {
		p.empty <- block[:0]
	}
}
