package placement

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The logins whose passwords come from a cluster's Admin secret, so that the application's processes, which hold only the
// App secret, cannot make them.
const (
	AdminLogin    = "landlord_admin"
	MigratorLogin = "landlord_migrator"
)

// DerivePassword is the password of a login: base64url, without padding, of HMAC-SHA256 keyed with the secret over
// "landlord login", a zero byte and the login. One secret of 32 random bytes thus serves any number of dedicated databases,
// and no password is stored anywhere.
func DerivePassword(secret, login string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("landlord login\x00" + login))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// OperatorConfig is how to reach a database of the cluster as its operator; empty: the one that the operator's connection
// string names. The caller's environment (PGPASSWORD and its
// kin) can fill what the operator's connection string leaves open.
func (c Cluster) OperatorConfig(database string) (*pgx.ConnConfig, error) {
	dsn, err := c.Operator.Resolve()
	if err != nil {
		return nil, fmt.Errorf("connect to cluster %s as operator: %w", c.Name, err)
	}
	cfg, err := parseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to cluster %s as operator: %s: %w", c.Name, c.Operator, err)
	}
	if database != "" {
		cfg.Database = database
	}
	return cfg, nil
}

// LoginConfig is how to reach a database of the cluster as one of landlord's logins, with its derived password: from the
// Admin secret for [AdminLogin] and [MigratorLogin], from the App secret for every other.
func (c Cluster) LoginConfig(login, database string) (*pgx.ConnConfig, error) {
	ref := c.App
	if login == AdminLogin || login == MigratorLogin {
		ref = c.Admin
	}
	secret, err := ref.Resolve()
	if err != nil {
		return nil, fmt.Errorf("connect to cluster %s as %s: %w", c.Name, login, err)
	}
	cfg, err := parseDSN(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("connect to cluster %s as %s: endpoint: %w", c.Name, login, err)
	}
	cfg.User, cfg.Password, cfg.Database = login, DerivePassword(secret, login), database
	return cfg, nil
}

// parseDSN hides pgx's error: it quotes the connection string, and masks a password only where it recognises one.
func parseDSN(dsn string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("not a connection string that can be used: give host=... port=... or postgres://host:port")
	}
	return cfg, nil
}

// Who connects and to what is decided per connection, so an endpoint must not say it; nor may it lead to a file that does.
var (
	identityKeys = regexp.MustCompile(`(?i)(^|\s)(user|password|sslpassword|dbname|database|passfile|service|servicefile)\s*=`)
	hostKeys     = regexp.MustCompile(`(^|\s)host\s*=\s*[^\s]`)
)

func checkEndpoint(endpoint string) error {
	says := endpoint
	if u, err := url.Parse(endpoint); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		if u.User != nil || strings.Trim(u.Path, "/") != "" {
			return errEndpointIdentity
		}
		says = ""
		if u.Host != "" {
			says = "host=" + u.Host
		}
		for key, values := range u.Query() {
			says += " " + key + "=" + strings.Join(values, ",")
		}
	}
	switch {
	case identityKeys.MatchString(says):
		return errEndpointIdentity
	case !hostKeys.MatchString(says):
		return errors.New("bad endpoint: it names no host: give host=... port=... or postgres://host:port")
	}
	if _, err := parseDSN(endpoint); err != nil {
		return fmt.Errorf("bad endpoint: %w", err)
	}
	return nil
}

var errEndpointIdentity = errors.New("bad endpoint: leave out user, password, database and files that name them: landlord adds its own")
