package migrate

import (
	"fmt"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// inspect refuses statements that would reach beyond their file: Build sends a file as one message
// within a transaction that others continue, on a connection that others use afterwards.
func (m *Migration) inspect() error {
	for _, text := range m.Statements {
		tokens, err := sqltext.Tokenize(text)
		if err != nil {
			return fmt.Errorf("%q: %w", sqltext.Excerpt(text), err)
		}
		for _, statement := range sqltext.Split(tokens) {
			if err := sqltext.Refuse(statement); err != nil {
				return fmt.Errorf("%q: %w", sqltext.Excerpt(text[statement[0].Pos:]), err)
			}
			index, concurrently := sqltext.ConcurrentIndex(statement)
			switch {
			case concurrently && index == "":
				return fmt.Errorf("%q: an index that is built concurrently needs a name, or an interrupted build could not be found again", sqltext.Excerpt(text))
			case concurrently:
				m.indexes = append(m.indexes, index)
			}
		}
	}
	if m.Batched() {
		return m.inspectBackfill()
	}
	return nil
}
