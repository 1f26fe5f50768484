package fingerprint

import (
	"slices"
	"strings"
)

// Change is how an object differs from what is expected.
type Change string

// The changes.
const (
	Missing   Change = "missing"
	Extra     Change = "extra"
	Different Change = "different"
)

// Difference is one object that is not as expected.
type Difference struct {
	Kind     string `json:"kind"`
	Object   string `json:"object"`
	Change   Change `json:"change"`
	Expected string `json:"expected"` // its definition; empty when it is extra
	Found    string `json:"found"`    // its definition; empty when it is missing
}

// Compare returns where a home differs from what is expected, by kind and name. What is part of an object that is missing or extra
// goes without saying, as do grants on it.
func Compare(expected, found []Object) []Difference {
	type pair struct{ expected, found *Object }
	type key struct{ kind, of, name string }
	keyOf := func(o *Object) key {
		if o.Kind == "sequence" { // may lose its owner
			return key{o.Kind, "", o.name}
		}
		return key{o.Kind, o.of, o.name}
	}
	pairs := make(map[key]pair)
	for i := range expected {
		pairs[keyOf(&expected[i])] = pair{expected: &expected[i]}
	}
	for i := range found {
		k := keyOf(&found[i])
		pairs[k] = pair{pairs[k].expected, &found[i]}
	}
	whole := make(map[[2]string]bool) // objects that have no counterpart, by what they are of, and name
	for k, p := range pairs {
		if (p.expected == nil || p.found == nil) && k.kind != "grants" && k.kind != "comment" {
			switch {
			case k.kind == "column":
				whole[[2]string{k.of, k.name}] = true
			case k.of == "":
				whole[[2]string{"", k.name}] = true
			}
		}
	}
	var all []Difference
	for k, p := range pairs {
		var d Difference
		one := p.expected
		switch {
		case p.expected == nil:
			one = p.found
			d = Difference{Change: Extra, Found: p.found.Definition}
		case p.found == nil:
			d = Difference{Change: Missing, Expected: p.expected.Definition}
		case p.expected.Definition == p.found.Definition:
			continue
		default:
			d = Difference{Change: Different, Expected: p.expected.Definition, Found: p.found.Definition}
		}
		d.Kind, d.Object = one.Kind, one.Name
		partOf := one.of != "" && whole[[2]string{"", one.of}]
		about := (k.kind == "grants" || k.kind == "comment") && whole[[2]string{k.of, k.name}]
		if d.Change == Different || !partOf && !about {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b Difference) int {
		return strings.Compare(a.Kind+"\x00"+a.Object+"\x00"+string(a.Change), b.Kind+"\x00"+b.Object+"\x00"+string(b.Change))
	})
	return all
}
