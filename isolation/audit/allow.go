package audit

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Allowed is an exception that somebody has given a reason for.
type Allowed struct {
	Rule   string
	Object string // as findings name it; * stands for any text, as in "*.jobs" for every home's
	Reason string
}

// ErrUnknownRule reports a name that no rule has.
var ErrUnknownRule = errors.New("no such rule")

// Validate reports everything that is wrong with a.
func (a Allowed) Validate() error {
	var errs []error
	if _, ok := byName[a.Rule]; !ok {
		errs = append(errs, fmt.Errorf("%w: %q", ErrUnknownRule, a.Rule))
	}
	if a.Object == "" {
		errs = append(errs, errors.New("object: name what is allowed, as the finding does"))
	}
	if a.Reason == "" {
		errs = append(errs, errors.New("reason: say why it is allowed"))
	}
	return errors.Join(errs...)
}

// Covers tells whether a is about f.
func (a Allowed) Covers(f Finding) bool {
	if a.Rule != f.Rule {
		return false
	}
	pattern := "(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(a.Object), `\*`, ".*") + "$"
	return regexp.MustCompile(pattern).MatchString(f.Object)
}
