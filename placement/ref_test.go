package placement_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/placement"
)

func TestRefsAreRead(t *testing.T) {
	t.Setenv("PLACEMENT_TEST_SECRET", "s3cret\n")
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("from a file\r\n"), 0o600))
	for ref, want := range map[placement.Ref]string{
		"env:PLACEMENT_TEST_SECRET":   "s3cret",
		placement.Ref("file:" + file): "from a file",
	} {
		got, err := ref.Resolve()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestRefErrorsNameTheRefAndNeverAValue(t *testing.T) {
	t.Parallel()
	big := filepath.Join(t.TempDir(), "big")
	require.NoError(t, os.WriteFile(big, []byte(strings.Repeat("x", 65<<10)), 0o600))
	for _, ref := range []placement.Ref{"env:PLACEMENT_TEST_UNSET", "file:/does/not/exist", placement.Ref("file:" + big), "file:/dev/null"} {
		_, err := ref.Resolve()
		require.ErrorContains(t, err, string(ref))
	}
	for _, ref := range []placement.Ref{"", "hunter2", "postgres://u:hunter2@h/db", "env:", "env:A B", "env:hunter2=x", "file:hunter2", "file:/a\x00hunter2"} {
		_, err := ref.Resolve()
		require.ErrorContains(t, err, "give env:NAME or file:/absolute/path")
		require.NotContains(t, err.Error(), "hunter2")
	}
}
