package explore

// Everything is bounded and small, so that a state is a value that can be compared and kept by the million.
const (
	source, target = 0, 1 // homes, by the part they have in the move; a rollback goes the other way

	movers     = 2
	clients    = 2 // who write: one in READ COMMITTED, one in REPEATABLE READ
	maxLog     = 12
	repeatable = 1 // the client whose transactions are REPEATABLE READ
	noStream   = 0xff
	firstEpoch = 1
)

// row is a fence row.
type row struct {
	state fence
	epoch uint8
	owner uint8 // mover m's token is m+1, attempt n is n+firstAttempt; 0: nobody
}

// fence is the state of a fence row.
type fence uint8

const (
	absent fence = iota // there is no row
	importing
	open
	fenced
	moved
)

const firstAttempt = movers // attempts are counted from 1

// home is a tenant's home, as committed, and the locks on it.
type home struct {
	row
	sharing uint8         // who holds the row for share: bits of clients, then of movers' appliers
	alone   uint8         // whose session holds the writers' key exclusively: mover + 1, 0: nobody
	inside  uint8         // clients that share the writers' key
	data    image         // the tenant's rows
	seq     uint8         // the last value of the sequence
	log     [maxLog]image // what the stream brings: images after each commit, and messages
	len     uint8         // of log
}

// image is the tenant's rows: in the low half the writes that they show, in the high half the keys in use. All of it is in each
// change of the stream, as a row's whole new version is: one that is applied late takes back what came after it. A message has
// nothing in the low half and its attempt in the high one.
type image uint8

func message(attempt uint8) image { return image(attempt << 4) }

func (i image) isMessage() bool { return i&0xf == 0 }

// mover is a process that drives the move, or the shell of one that has died.
type mover struct {
	at      place
	phase   phase // of the move, when it claimed it
	reverse bool  // which way it is moving the tenant
	attempt uint8 // the one it is making
	next    uint8 // the next entry of the stream for its applier
	apply   bool  // its applier is in a transaction
	op      op    // what its fence session is about, which may outlive it
	on      uint8 // at which home that session is
	back    uint8 // the target's position before it is open, where the stream back begins
}

// place is where in the protocol a mover is.
type place uint8

const (
	gone      place = iota // not started, or crashed
	claimed                // the catalog says that the move is its own
	owning                 // the row that is written to says so too; is the claim still good?
	following              // its applier is at work
	locking                // only where the position is taken too early
	draining               // the position is taken; the applier has to get there
	counting               // sequences
	deciding
	awaiting
	undoing
	doubting // nobody has said how the commit went
	opening
	routing
	ending // the source's row has said that nobody can commit any more
	dropping
)

// op is what the server is doing for a fence session. It goes on when the mover has gone.
type op uint8

const (
	none    op = iota // there is no session
	idle              // it is there, and holds the lock
	asked             // the commit has been sent
	passing           // the row was right, and is locked; not committed yet
	refused
	accepted
)

// client is a client that writes, through a router of its own with a cache that nobody refreshes but the homes' answers.
type client struct {
	at     stage
	home   uint8
	epoch  uint8
	wrote  uint8
	saw    row  // by its snapshot, where it has one, or by its reading
	behind bool // the row has changed since
}

// stage is where a client is in its transaction.
type stage uint8

const (
	outside stage = iota
	begun         // it has its snapshot, or (lock after row) has read the row, and waits for the lock
	entered
)

// phase is what the catalog says of the move.
type phase uint8

const (
	moving phase = iota
	reversing
	aborting
	aborted
	completing
	done
	reverting
	reverted
)

// state is everything there is.
type state struct {
	homes   [2]home
	movers  [movers]mover
	clients [clients]client
	reader  struct {
		home, epoch uint8
		in          bool
	}
	passed   uint8    // attempts whose fenced_until has passed: bits
	attempts uint8    // how many there were
	progress [2]uint8 // by direction: how far the stream is applied at the side that it is written to
	acked    image    // writes that were acknowledged
	highest  uint8    // epoch that was ever open
	catalog  struct {
		home, epoch, owner uint8
		phase              phase
	}
	broken property // set by the step that breaks it
}

// property is what has to hold.
type property uint8

const (
	holds property = iota
	onceAtHome
	oneOpen
	epochsRise
	inTime
	notImporting
	nothingAfter
	neverWedged
)

func (p property) String() string {
	return [...]string{
		holds:        "holds",
		onceAtHome:   "I1: an acknowledged write is not in the open home exactly once",
		oneOpen:      "I2: two homes are open, or somebody wrote where the tenant is not open at the writer's epoch",
		epochsRise:   "I3: an epoch went back",
		inTime:       "I7: the attempt was decided after its time",
		notImporting: "I9: a reader is in a home that is being filled, or is gone",
		nothingAfter: "I1: a write was acknowledged after the position",
		neverWedged:  "no way leads to a tenant at rest any more",
	}[p]
}
