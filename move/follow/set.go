package follow

import (
	"slices"

	"github.com/landlord-go/landlord/internal/repl"
)

// set is what a list of changes comes to in the end: one state for each row.
type set struct {
	states []state
	at     map[rowKey]int // place in states
}

type rowKey struct {
	target *target
	key    string
}

// state is how a row ends.
type state struct {
	target *target
	act    act // put (whole), patch or drop
	key    repl.Tuple
	row    repl.Tuple
}

func newSet(size int) *set {
	return &set{states: make([]state, 0, size), at: make(map[rowKey]int, size)}
}

// add takes a change in. It is false, and nothing happened, for one that cannot be told from the changes alone.
func (s *set) add(c change) bool {
	switch {
	case c.act == drop:
		s.put(state{target: c.target, act: drop, key: c.old})
	case whole(c.row):
		s.put(state{target: c.target, act: put, key: c.target.keyOf(c.row), row: c.row})
	case c.act == patch:
		return s.patch(c)
	case c.act == rename:
		return s.rename(c)
	default: // a new row of which not all is told
		return false
	}
	return true
}

func (s *set) put(n state) {
	k := rowKey{n.target, identity(n.key)}
	if i, ok := s.at[k]; ok {
		s.states[i] = n
		return
	}
	s.at[k] = len(s.states)
	s.states = append(s.states, n)
}

// patch completes the row from what is known of it.
func (s *set) patch(c change) bool {
	key := c.target.keyOf(c.row)
	i, ok := s.at[rowKey{c.target, identity(key)}]
	if !ok {
		if !c.target.replaces {
			s.put(state{target: c.target, act: patch, key: key, row: c.row})
		}
		return !c.target.replaces
	}
	if s.states[i].act == drop {
		return false
	}
	s.states[i].row = merge(s.states[i].row, c.row)
	return true
}

// rename gives a row another key, if all of its values are known.
func (s *set) rename(c change) bool {
	i, ok := s.at[rowKey{c.target, identity(c.old)}]
	if !ok || s.states[i].act != put {
		return false
	}
	row := merge(s.states[i].row, c.row)
	s.put(state{target: c.target, act: drop, key: c.old})
	s.put(state{target: c.target, act: put, key: c.target.keyOf(row), row: row})
	return true
}

// merge is row with the values that it does not tell taken from before.
func merge(before, row repl.Tuple) repl.Tuple {
	out := make(repl.Tuple, len(row))
	for i, v := range row {
		if v.Kind == repl.Unchanged {
			v = before[i]
		}
		out[i] = v
	}
	return out
}

// group is a statement's rows.
type group struct {
	target *target
	act    act
	mask   []bool // patch: which values are told
	rows   []repl.Tuple
}

// groups sorts the states by the statements that write them, in the order in which those are to run: what is removed makes room.
func (s *set) groups() []*group {
	var drops, patches, puts []*group
	for _, st := range s.states {
		switch st.act {
		case drop:
			drops = join(drops, st, nil, st.key)
		case patch:
			patches = join(patches, st, told(st.row), st.row)
		default:
			if st.target.replaces {
				drops = join(drops, state{target: st.target, act: drop}, nil, st.key)
			}
			puts = join(puts, st, nil, st.row)
		}
	}
	return slices.Concat(drops, patches, puts)
}

// join adds a row to the group that it belongs to. There are as many groups as tables, or forms of a patch: few.
func join(groups []*group, st state, mask []bool, row repl.Tuple) []*group {
	i := slices.IndexFunc(groups, func(g *group) bool { return g.target == st.target && slices.Equal(g.mask, mask) })
	if i < 0 {
		return append(groups, &group{target: st.target, act: st.act, mask: mask, rows: []repl.Tuple{row}})
	}
	groups[i].rows = append(groups[i].rows, row)
	return groups
}

func (g *group) statement() statement {
	switch g.act {
	case drop:
		return arrays(g.target.drop, g.rows, len(g.target.key))
	case patch:
		return arrays(g.target.patchSQL(g.mask), g.rows, len(g.target.values))
	default:
		return arrays(g.target.put, g.rows, len(g.target.values))
	}
}
