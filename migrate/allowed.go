package migrate

import "slices"

// Allowed returns the part of the set that ends in front of the first file of the phase contract above the version contracted:
// what a home may have while the contract gate stands there.
func (s *Set) Allowed(contracted int64) *Set {
	n := s.closed(contracted)
	return &Set{migrations: s.migrations[:n:n]}
}

// NextContract returns the contract files that follow what [Set.Allowed] allows, without one of another phase between them, and
// the newest version in front of them that is none: what the application has to be written for before they may run. There are
// none when all is allowed.
func (s *Set) NextContract(contracted int64) (files []Migration, needs int64) {
	first := s.closed(contracted)
	for _, m := range s.migrations[first:] {
		if m.Phase != PhaseContract {
			break
		}
		files = append(files, m)
	}
	if len(files) == 0 {
		return nil, 0
	}
	return files, s.Needs(files[0].Version)
}

// Needs returns the newest version in front of version whose file is not of the phase contract, or 0.
func (s *Set) Needs(version int64) (needs int64) {
	for _, m := range s.Until(version - 1).migrations {
		if m.Phase != PhaseContract {
			needs = m.Version
		}
	}
	return needs
}

// closed is the place of the first contract file above a version.
func (s *Set) closed(contracted int64) int {
	n := slices.IndexFunc(s.migrations, func(m Migration) bool { return m.Phase == PhaseContract && m.Version > contracted })
	if n < 0 {
		return len(s.migrations)
	}
	return n
}
