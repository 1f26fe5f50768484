package placement_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/placement"
)

func TestPasswordsAreDerivedAsDocumented(t *testing.T) {
	t.Parallel()
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write([]byte("landlord login"))
	mac.Write([]byte{0})
	mac.Write([]byte("landlord_app"))
	require.Equal(t, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), placement.DerivePassword("secret", "landlord_app"))
}

func TestLoginsConnectWithTheSecretOfTheirRank(t *testing.T) {
	t.Setenv("PT_APP", "app secret")
	t.Setenv("PT_ADMIN", "admin secret")
	t.Setenv("PT_OPERATOR", "postgres://boss:hunter2@db.example:5433/postgres")
	t.Setenv("PGPASSWORD", "of the environment")
	t.Setenv("PGUSER", "environment")
	c := aCluster("a")
	c.App, c.Admin, c.Operator = "env:PT_APP", "env:PT_ADMIN", "env:PT_OPERATOR"
	for login, secret := range map[string]string{
		"landlord_app": "app secret", "t_1_app": "app secret",
		placement.AdminLogin: "admin secret", placement.MigratorLogin: "admin secret",
	} {
		for _, endpoint := range []string{"host=db.example port=5433 sslmode=disable", "postgres://db.example:5433/?sslmode=disable"} {
			c.Endpoint = endpoint
			cfg, err := c.LoginConfig(login, `odd "name" x`)
			require.NoError(t, err)
			require.Equal(t, "db.example", cfg.Host)
			require.EqualValues(t, 5433, cfg.Port)
			require.Equal(t, login, cfg.User)
			require.Equal(t, placement.DerivePassword(secret, login), cfg.Password)
			require.Equal(t, `odd "name" x`, cfg.Database)
		}
	}
	cfg, err := c.OperatorConfig("app")
	require.NoError(t, err)
	require.Equal(t, []any{"db.example", "boss", "hunter2", "app"}, []any{cfg.Host, cfg.User, cfg.Password, cfg.Database})
	cfg, err = c.OperatorConfig("")
	require.NoError(t, err)
	require.Equal(t, "postgres", cfg.Database, "the one that the connection string names")
}

func TestBadOperatorDSNIsNotQuoted(t *testing.T) {
	t.Setenv("PT_OPERATOR", "postgres://boss:hunter2@db.example:notaport/postgres")
	c := aCluster("a")
	c.Operator = "env:PT_OPERATOR"
	_, err := c.OperatorConfig("app")
	require.ErrorContains(t, err, "env:PT_OPERATOR")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestEndpointsSayWhereAndNeverWho(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"host=db.example", "host=/var/run/postgresql port=5433", "postgres://db.example:5432", "postgresql://db.example/?sslmode=verify-full",
		"postgres:///?host=/tmp", "host=a,b port=5432,5433 target_session_attrs=read-write",
	} {
		c := aCluster("a")
		c.Endpoint = good
		require.NoError(t, c.Validate(), good)
	}
	for _, bad := range []string{
		"", "port=5432", "db.example", "host=h user=u", "host=h password=hunter2", "host=h PASSWORD = hunter2", "host=h dbname=d", "host=h passfile=/x",
		"host=h service=s", "host=h sslpassword=hunter2", "postgres://u:hunter2@h", "postgres://u@h", "postgres://h/d", "postgres://h?password=hunter2",
		"postgres://h?user=u", "postgres://h?%70assword=hunter2", "postgres://h:hunter2", "postgres://", "host=h port=hunter2", "mysql://h",
	} {
		c := aCluster("a")
		c.Endpoint = bad
		err := c.Validate()
		require.ErrorContains(t, err, "bad endpoint", bad)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
