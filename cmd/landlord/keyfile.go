package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// readKeys reads the seal keys that ref leads to. A file that is missing is fs.ErrNotExist.
func readKeys(ref placement.Ref) (isolation.Keyring, error) {
	text, err := ref.Resolve()
	switch {
	case err == nil:
		return isolation.ParseKeyring(text)
	case keyFile(ref) == "":
		return nil, fmt.Errorf("read seal keys: %w: lines of a number, a colon and 64 hexadecimal digits, such as \"1:$(openssl rand -hex 32)\"", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read seal keys: %w: bring the file back, or let 'landlord init' make a first one", err)
	}
	return nil, fmt.Errorf("read seal keys: %w", err)
}

// keyFile is where the seal keys are when they are in a file, or "".
func keyFile(ref placement.Ref) string {
	file, ok := strings.CutPrefix(string(ref), "file:")
	if !ok {
		return ""
	}
	return file
}

// makeKeys returns the seal keys, and makes the first one where the file is missing, unless databases have keys already:
// those were in the file. What exists is never written to.
func (a *app) makeKeys(ctx context.Context) (ring isolation.Keyring, created bool, err error) {
	ref := a.loaded.Keys
	file := keyFile(ref)
	if ring, err = readKeys(ref); file == "" || !errors.Is(err, fs.ErrNotExist) {
		return ring, false, err
	}
	h, err := a.house(ctx, nil)
	if err != nil {
		return nil, false, err
	}
	defer h.Close()
	if err := h.noKeys(ctx); err != nil {
		return nil, false, err
	}
	key, err := isolation.NewKey(1)
	if err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, false, fmt.Errorf("make seal keys: %w", err)
	}
	created, err = newFile(file, isolation.Keyring{key}.String())
	if err != nil {
		return nil, false, fmt.Errorf("make seal keys: %w", err)
	}
	ring, err = readKeys(ref) // somebody else may have been faster
	return ring, created, err
}

// noKeys refuses to make a first seal key where there have been some: services seal with those, and the databases know
// their numbers.
func (h *house) noKeys(ctx context.Context) error {
	known, err := h.service.Keys(ctx)
	newest := 0
	for _, db := range known {
		for _, k := range db.Keys {
			newest = max(newest, k.ID)
		}
	}
	switch {
	case newest > 0:
		return fmt.Errorf("make seal keys: %s is missing, but %d databases have keys: bring the file back from where services "+
			"or backups have it; if it is lost for good, put a new one in its place, with a higher number "+
			"(\"%d:$(openssl rand -hex 32)\"), run landlord init and give it to every service",
			keyFile(h.config.Keys), len(known), newest+1)
	case err != nil:
		return fmt.Errorf("make seal keys: %s is missing, and whether databases have keys cannot be told: %w", keyFile(h.config.Keys), err)
	}
	return nil
}

// newFile writes a file that only its owner may read, whole, unless one of that name exists. It tells whether it did.
func newFile(name, text string) (created bool, err error) {
	tmp := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := replaceFile(tmp, text); err != nil {
		return false, err
	}
	err = os.Link(tmp, name) // fails, at once, where the name is taken
	created = err == nil
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return created, errors.Join(err, os.Remove(tmp))
}

// changeKeys runs change with the keys of the file, while no other landlord on this machine changes them.
func changeKeys(ref placement.Ref, change func(file string, ring isolation.Keyring) error) error {
	file := keyFile(ref)
	if file == "" {
		return fmt.Errorf("change seal keys: they come from %s, which only you can change: put them into a file, name it by "+
			"LANDLORD_KEYS=file:/path, do this again and set the variable to what the file then says", ref)
	}
	// The folder is locked, not the file: a change puts another file in its place.
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("change seal keys: %w", err)
	}
	defer folder.Close()
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("change seal keys: lock %s: %w", filepath.Dir(file), err)
	}
	ring, err := readKeys(ref)
	if err != nil {
		return err
	}
	return change(file, ring)
}
