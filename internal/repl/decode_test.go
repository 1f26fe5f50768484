package repl_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/repl"
)

// relation is a table "s.t" with the columns id and v.
var relation = []byte("R\x00\x00\x00\x01s\x00t\x00d\x00\x02" +
	"\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff" + "\x00v\x00\x00\x00\x00\x19\xff\xff\xff\xff")

// well lists messages that are as they must be, after relation.
var well = [][]byte{
	relation,
	append([]byte("B"), make([]byte, 20)...),
	append([]byte("C"), make([]byte, 25)...),
	[]byte("I\x00\x00\x00\x01N\x00\x02t\x00\x00\x00\x011n"),
	[]byte("U\x00\x00\x00\x01N\x00\x02t\x00\x00\x00\x011u"),
	[]byte("U\x00\x00\x00\x01K\x00\x02t\x00\x00\x00\x011nN\x00\x02t\x00\x00\x00\x012u"),
	[]byte("D\x00\x00\x00\x01O\x00\x02t\x00\x00\x00\x011n"),
	[]byte("T\x00\x00\x00\x01\x03\x00\x00\x00\x01"),
	[]byte("M\x01\x00\x00\x00\x00\x00\x00\x00\x07landlord\x00\x00\x00\x00\x02hi"),
}

func decoder(t testing.TB) *repl.Decoder {
	d := new(repl.Decoder)
	_, err := d.Decode(relation)
	require.NoError(t, err)
	return d
}

func TestMessageThatIsCutShortIsRefused(t *testing.T) {
	t.Parallel()
	for _, m := range well {
		_, err := decoder(t).Decode(m)
		require.NoError(t, err)
		for n := range m {
			_, err := decoder(t).Decode(m[:n])
			require.ErrorIs(t, err, repl.ErrMessage, "%q", m[:n])
		}
		_, err = decoder(t).Decode(append(slices.Clip(m), 0))
		require.ErrorIs(t, err, repl.ErrMessage)
	}
}

func TestAbsurdMessageIsRefused(t *testing.T) {
	t.Parallel()
	huge := binary.BigEndian.AppendUint32(nil, 1<<31)
	for _, m := range [][]byte{
		nil,
		[]byte("?"),
		[]byte("I\x00\x00\x00\x02N\x00\x00"), // a table that was not described
		[]byte("I\x00\x00\x00\x01K\x00\x02nn"),
		[]byte("I\x00\x00\x00\x01N\x00\x01n"),
		[]byte("I\x00\x00\x00\x01N\x00\x02nx"),
		[]byte("U\x00\x00\x00\x01X\x00\x02nn"),
		append([]byte("I\x00\x00\x00\x01N\x00\x02t"), huge...),
		append(append([]byte("T"), huge...), 0),
		[]byte("R\x00\x00\x00\x01s\x00t\x00d\xff\xff"),
	} {
		_, err := decoder(t).Decode(m)
		require.ErrorIs(t, err, repl.ErrMessage, "%q", m)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range well {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := decoder(t)
		msg, err := d.Decode(data)
		if err != nil {
			require.ErrorIs(t, err, repl.ErrMessage)
		}
		if in, ok := msg.(repl.Insert); ok {
			require.Equal(t, in.New, in.New.Clone())
		}
		_, _ = d.Decode(well[3]) // a table may have been described anew
	})
}

func TestPositionsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"} {
		l, err := repl.ParseLSN(s)
		require.NoError(t, err)
		require.Equal(t, s, l.String())
	}
	for _, s := range []string{"", "1", "/", "1/", "100000000/0", "x/y", "-1/0"} {
		_, err := repl.ParseLSN(s)
		require.Error(t, err, s)
	}
	db := dial(t, newSource(t, publication).dsn)
	var got repl.LSN
	require.NoError(t, db.QueryRow(t.Context(), `select $1::pg_lsn`, repl.LSN(0x16B374D848)).Scan(&got))
	require.Equal(t, repl.LSN(0x16B374D848), got)
}
