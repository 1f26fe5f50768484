//go:build !landlord_faults

package move

import "context"

// fault is where tests let a mover fail. In any other build it is nothing.
func fault(context.Context, string) error { return nil }

// without is where tests leave a part of the protocol out. In any other build it is nothing.
func without(any) {}
