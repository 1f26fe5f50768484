package isolation

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Token lifetimes. The server allows a minute for a token bound to its backend and ten seconds for an unbound one; the rest
// is room for clocks that differ.
const (
	boundLifetime   = 30 * time.Second
	unboundLifetime = 7 * time.Second
)

// Key is one seal key: what the application proves itself with to landlord.enter.
type Key struct {
	ID     int
	Secret []byte // 32 bytes; never leaves the application, see Sealer
}

// NewKey makes a random key.
func NewKey(id int) (Key, error) {
	k := Key{ID: id, Secret: make([]byte, 32)}
	if _, err := rand.Read(k.Secret); err != nil {
		return Key{}, fmt.Errorf("make a seal key: %w", err)
	}
	return k, nil
}

// Keyring holds the live keys, oldest first. The newest seals.
type Keyring []Key

// ParseKeyring reads lines of "ID:64 hexadecimal digits". Blank lines and lines that start with # are passed over.
func ParseKeyring(text string) (Keyring, error) {
	var ring Keyring
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, digits, _ := strings.Cut(line, ":")
		kid, err := strconv.ParseInt(id, 10, 32)
		secret, hexErr := hex.DecodeString(digits)
		if err != nil || kid < 1 || hexErr != nil || len(secret) != 32 {
			return nil, fmt.Errorf("read seal keys: line %d is not a number above 0, a colon and 64 hexadecimal digits", i+1)
		}
		ring = append(ring, Key{ID: int(kid), Secret: secret})
	}
	slices.SortFunc(ring, func(a, b Key) int { return a.ID - b.ID })
	for i := 1; i < len(ring); i++ {
		if ring[i].ID == ring[i-1].ID {
			return nil, fmt.Errorf("read seal keys: key %d stands there twice", ring[i].ID)
		}
	}
	if len(ring) == 0 {
		return nil, errors.New("read seal keys: there is none")
	}
	return ring, nil
}

// String writes the keyring in the form that ParseKeyring reads. It holds the secrets.
func (r Keyring) String() string {
	var b strings.Builder
	for _, k := range r {
		fmt.Fprintf(&b, "%d:%s\n", k.ID, hex.EncodeToString(k.Secret))
	}
	return b.String()
}

// forDatabase derives what the database with this stamp checks tokens with. So no server learns a secret that opens
// another database, and a database that was re-created under the same name is sealed with keys of its own.
func (k Key) forDatabase(stamp string) []byte {
	return mac(k.Secret, "landlord seal key|"+stamp)
}

// Entry is what a transaction asks to enter.
type Entry struct {
	Tenant string // canonical id
	Home   string // cluster/database/schema
	Epoch  int64
}

// EnterSQL opens a tenant; its parameters come from a Sealer. It must be the first statement of the transaction.
const EnterSQL = `select landlord.enter($1, $2, $3, $4, $5, $6)`

// Sealer makes the parameters of EnterSQL for one database. It is safe for concurrent use.
type Sealer struct {
	kid    string
	hashes sync.Pool // of hash.Hash keyed with the database's secret; nil New: the mode needs no token
}

// NewSealer returns the sealer of the database with this stamp. ring may be empty where the mode needs no token.
func NewSealer(mode Mode, ring Keyring, stamp string) (*Sealer, error) {
	s := &Sealer{}
	if !mode.needsToken() {
		return s, nil
	}
	if len(ring) == 0 {
		return nil, fmt.Errorf("enter in mode %s: no seal key; give the router the keys that landlord init made", mode)
	}
	key := ring[len(ring)-1]
	secret := key.forDatabase(stamp)
	s.kid = strconv.Itoa(key.ID)
	s.hashes.New = func() any { return hmac.New(sha256.New, secret) }
	return s, nil
}

// Params returns EnterSQL's parameters in text form, bound to the server process pid, or to nothing but a short time when
// pid is 0 because a pooler hides it. now is the server's time.
func (s *Sealer) Params(e Entry, pid uint32, now time.Time) [][]byte {
	params := [][]byte{[]byte(e.Tenant), []byte(e.Home), strconv.AppendInt(nil, e.Epoch, 10), nil, nil, nil}
	if s.hashes.New == nil {
		return params
	}
	lifetime := boundLifetime
	if pid == 0 {
		lifetime = unboundLifetime
	}
	exp := strconv.AppendInt(nil, now.Add(lifetime).Unix(), 10)

	// The text is that of landlord.token_text.
	text := make([]byte, 0, 192)
	text = append(text, "landlord1|"...)
	text = append(strconv.AppendInt(text, int64(len(e.Tenant)), 10), ':')
	text = append(append(text, e.Tenant...), '|')
	text = append(strconv.AppendInt(text, int64(len(e.Home)), 10), ':')
	text = append(append(text, e.Home...), '|')
	text = append(strconv.AppendUint(text, uint64(pid), 10), '|')
	text = append(text, exp...)

	h := s.hashes.Get().(hash.Hash)
	h.Reset()
	h.Write(text)
	sum := h.Sum(text[:0])
	s.hashes.Put(h)

	params[3], params[4] = []byte(s.kid), exp
	params[5] = hex.AppendEncode([]byte(`\x`), sum)
	return params
}
