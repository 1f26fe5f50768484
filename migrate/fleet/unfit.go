package fleet

import "errors"

// unfitError is why the files do not fit what a home has: it is ahead of them, or has what they have not. That is the home's own
// affair, and no reason to keep the files from others.
type unfitError struct{ err error }

func (e *unfitError) Error() string { return e.err.Error() }
func (e *unfitError) Unwrap() error { return e.err }

func isUnfit(err error) bool {
	_, unfit := errors.AsType[*unfitError](err)
	return unfit
}
