package leaktest_test

import (
	"testing"

	"github.com/landlord-go/landlord/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
