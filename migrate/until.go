package migrate

// Until returns the part of the set that ends with version: what a home of that version is made from.
func (s *Set) Until(version int64) *Set {
	n := 0
	for n < len(s.migrations) && s.migrations[n].Version <= version {
		n++
	}
	return &Set{migrations: s.migrations[:n:n]}
}
