package migrate

import (
	"fmt"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// inspect refuses statements that would reach beyond their file: Build sends a file as one message
// within a transaction that others continue, on a connection that others use afterwards. What the
// Down section says is refused when it is asked for.
func (m *Migration) inspect() (err error) {
	if m.downErr == nil {
		m.downIndexes, m.downErr = inspect(m.Down)
	}
	m.indexes, err = inspect(m.Statements)
	if err == nil && m.Batched() {
		err = m.inspectBackfill()
	}
	return err
}

// inspect returns the indexes that statements make concurrently.
func inspect(texts []string) (indexes []string, err error) {
	for _, text := range texts {
		tokens, err := sqltext.Tokenize(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", sqltext.Excerpt(text), err)
		}
		for _, statement := range sqltext.Split(tokens) {
			if err := sqltext.Refuse(statement); err != nil {
				return nil, fmt.Errorf("%q: %w", sqltext.Excerpt(text[statement[0].Pos:]), err)
			}
			index, concurrently := sqltext.ConcurrentIndex(statement)
			switch {
			case concurrently && index == "":
				return nil, fmt.Errorf("%q: an index that is built concurrently needs a name, or an interrupted build could not be found again", sqltext.Excerpt(text))
			case concurrently:
				indexes = append(indexes, index)
			}
		}
	}
	return indexes, nil
}
