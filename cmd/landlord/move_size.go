package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/landlord-go/landlord/placement"
)

// byteSize is a flag's value: a number of bytes, with or without a unit.
type byteSize int64

// units are those of PostgreSQL's settings.
var units = []struct {
	name string
	size int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

// Set reads a size such as 10GB.
func (b *byteSize) Set(s string) error {
	number, size := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if len(number) > len(u.name) && strings.EqualFold(number[len(number)-len(u.name):], u.name) {
			number, size = strings.TrimSpace(number[:len(number)-len(u.name)]), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/size {
		return errors.New("write it as 10GB: a number, and kB, MB, GB or TB")
	}
	*b = byteSize(n * size)
	return nil
}

func (b *byteSize) String() string { return bytesText(int64(*b)) }

// maxRateFlag adds the flag for how fast a move may copy.
func maxRateFlag(flags *pflag.FlagSet, b *byteSize) {
	flags.Var(b, "max-rate", "how much a copy may bring over in a second, such as 5MB, at least 32kB (default as much as it can)")
	flags.Lookup("max-rate").DefValue = "" // 0 says less
}

// tooSlow tells that a copy must not be held to the rate.
func (b *byteSize) tooSlow() bool { return *b > 0 && *b < placement.LeastMaxRate }

const tooSlow = "--max-rate must be at least 32kB, or 0 for as much as can be: it is what may be copied in a second"

// Type names the value in help.
func (b *byteSize) Type() string { return "size" }

// bytesText is a size as a person reads it.
func bytesText(n int64) string {
	for _, u := range units {
		if n >= u.size && u.size > 1 {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(u.size)), ".0") + u.name
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// secondsText is a time as a person reads it.
func secondsText(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Second {
		return "a second"
	}
	return d.Round(time.Second).String()
}
