package placement

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Ref says where a credential is: "env:NAME", a variable of the process, or "file:/absolute/path", such as a mounted
// secret. The catalog stores references only, so a copy of it opens nothing.
type Ref string

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxSecret bounds what is read of a file that may not be a secret at all.
const maxSecret = 64 << 10

// Validate reports whether r is a reference. Its error does not repeat r: people paste credentials where a reference belongs.
func (r Ref) Validate() error {
	kind, where, _ := strings.Cut(string(r), ":")
	switch {
	case kind == "env" && envName.MatchString(where):
		return nil
	case kind == "file" && filepath.IsAbs(where) && !strings.ContainsRune(where, 0):
		return nil
	}
	return errors.New("bad credential reference: give env:NAME or file:/absolute/path, never the credential itself")
}

// Resolve reads the credential, without the newline at its end. Errors name the reference and never the value.
func (r Ref) Resolve() (string, error) {
	if err := r.Validate(); err != nil {
		return "", err
	}
	kind, where, _ := strings.Cut(string(r), ":")
	value := os.Getenv(where)
	if kind == "file" {
		content, err := readSecret(where)
		if err != nil {
			return "", fmt.Errorf("resolve credential %s: %w", r, err)
		}
		value = content
	}
	value = strings.TrimRight(value, "\r\n")
	if value == "" {
		return "", fmt.Errorf("resolve credential %s: it is empty or not set: put the credential there", r)
	}
	return value, nil
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxSecret {
		return "", fmt.Errorf("it is longer than %d bytes", maxSecret)
	}
	return string(content), nil
}
