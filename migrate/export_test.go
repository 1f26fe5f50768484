package migrate

import "time"

// Pace is tested by itself: servers do not take the time that a test would like them to.
type Pace struct{ p pace }

func NewPace(b Batches) *Pace { return &Pace{newPace(b)} }

func (p *Pace) Size() int                      { return p.p.size }
func (p *Pace) Took(rows int, d time.Duration) { p.p.took(rows, d) }
func (p *Pace) Failed(rows int)                { p.p.failed(rows) }
func (p *Pace) Resume(size int)                { p.p.resume(size) }

// Judge says what Health makes of the signs.
func (h Health) Judge(lag time.Duration, wal, behind int64, waiting int, tended bool) (Advice, string) {
	return h.judge(vitals{lag: lag.Seconds(), wal: wal, behind: behind, waiting: waiting, tended: tended})
}
