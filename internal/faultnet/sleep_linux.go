package faultnet

import (
	"syscall"
	"time"
)

// sleep ends a few ten microseconds late, where time.Sleep takes a millisecond or more; a signal may end it early.
func sleep(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
