package app_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/internal/smalldisk"
	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// fullDisk is a cluster with its PostgreSQL on a small disk, and the sink of its log on another one.
type fullDisk struct {
	*cluster
	database, sink *smalldisk.Disk
	postgres       *dbtest.Durable
	way            *line
	opened         []opened
}

// TestTheDiskIsFull fills the disks that the product writes to, one after the other, while people work: that of the sink, that
// of PostgreSQL with room left in its write-ahead log, and with none, of which PostgreSQL dies. Nothing is accepted that
// cannot be kept, nothing turns green, nothing is lost, and all goes on when there is room again.
func TestTheDiskIsFull(t *testing.T) {
	t.Parallel()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if !smalldisk.Alone(t, builtAs+"="+path) {
		return
	}
	f := &fullDisk{database: smalldisk.New(t, 256<<20), sink: smalldisk.New(t, 1<<20), way: &line{}}
	f.cluster = newCluster(t, options{
		servers: 2, patience: 2 * patience, sink: f.sink.Path,
		db: func(t testing.TB) dbtest.Database {
			f.postgres = dbtest.NewDurableIn(t, filepath.Join(f.database.Path, "postgres"))
			return f.postgres.Database
		},
		database: func(appURL string) string { return lay(t, appURL, f.way) },
	})
	f.sinkIsFull()
	f.databaseIsFull()
	f.writeAheadLogIsFull()
	f.atRest()
	f.mergedOnce(f.opened)
	if left, err := filepath.Glob(filepath.Join(f.sink.Path, ".checkpoint-*")); err != nil || len(left) > 0 {
		t.Errorf("the sink keeps what was never written whole: %v, %v", left, err)
	}
}

// sinkIsFull: what was approved is not published, so it does not turn green and is not merged.
func (f *fullDisk) sinkIsFull() {
	f.t.Helper()
	before := f.openMany(1, "before")
	f.approveBoth(before)
	f.untilMerged(before)
	f.sink.Fill()
	list := f.openMany(2, "without")
	f.approveBoth(list)
	f.eventually("a status of each waits for the sink", func() bool {
		return len(f.sql(`select key from signedapproval_jobs where kind = 'status' and last_error like '%no space left%' and state = 'READY'`)) == len(list)
	})
	f.check(false)
	f.nothingGreen(list)
	f.sink.Clear()
	f.untilMerged(list)
	f.opened = append(f.opened, append(before, list...)...)
}

// databaseIsFull: PostgreSQL refuses what needs more room. What fits into the room that its tables have it takes, and keeps.
func (f *fullDisk) databaseIsFull() {
	f.t.Helper()
	list := f.openMany(8, "full")
	signed := f.signed(list)
	// The write-ahead log has room of its own for a while, in the file that it has just begun.
	f.sql(`select pg_switch_wal()::text`)
	f.sql(`select pg_logical_emit_message(true, 'begin', '')::text`)
	turnedAway := f.watchHooks()
	f.database.Fill()
	late := f.untilTurnedAway("late", turnedAway)
	kept, refused := f.submit(list, signed)
	if len(refused) == 0 {
		f.t.Error("decisions were taken for which there was no room")
	}
	f.t.Logf("%d decisions fitted in, %d were refused; %d pull requests were opened before webhooks were", kept, len(refused), len(late))
	if got := len(f.sql(`select id::text from signedapproval_decisions where person_id = (select id from signedapproval_people where name = 'Bob') and action = 'APPROVE'
		and pull_request_id in (select id from signedapproval_pull_requests where number >= $1)`, list[0].Number)); got != kept {
		f.t.Errorf("%d decisions were answered, and %d are kept", kept, got)
	}
	f.check(false)
	f.nothingGreen(refused)
	f.database.Clear()
	f.proceed(append(list, late...))
}

// writeAheadLogIsFull: PostgreSQL cannot even say that it cannot, and dies.
func (f *fullDisk) writeAheadLogIsFull() {
	f.t.Helper()
	list := f.openMany(2, "panic")
	signed := f.signed(list)
	turnedAway := f.watchHooks()
	f.database.Fill()
	f.eventually("PostgreSQL dies", func() bool {
		_, err := f.query(`select pg_switch_wal()::text from pg_logical_emit_message(true, 'end', repeat('x', 1000000))`)
		return err != nil && !strings.Contains(err.Error(), "53100")
	})
	late := f.untilTurnedAway("later", turnedAway)
	if kept, _ := f.submit(list, signed); kept > 0 {
		f.t.Errorf("%d decisions were taken by nobody", kept)
	}
	f.nothingGreen(list)
	for _, s := range f.servers {
		if status, text, err := s.get(*s.address.Load(), "/readyz"); err != nil || status != http.StatusServiceUnavailable {
			f.t.Errorf("/readyz answers %d %s %v", status, text, err)
		}
	}
	// Whoever runs PostgreSQL makes room and starts it.
	f.database.Clear()
	f.postgres.Crash()
	f.postgres.Recover()
	f.db = f.postgres.Database
	f.way.lead(f.t.(*testing.T), f.db.AppURL)
	f.proceed(append(list, late...))
}

// signed has carol approve, and bob sign; each is short of its quorum by what bob has signed.
func (f *fullDisk) signed(list []opened) []stage.Signed {
	f.t.Helper()
	f.eventually("all wait for approval", func() bool { return f.shows(bitbucket.StatusInProgress, list...) })
	f.must(f.approve(f.carol, list))
	signed := make([]stage.Signed, len(list))
	for i, pr := range list {
		var err error
		signed[i], err = f.bob.Sign(f.ctx, pr.Place, "APPROVE")
		f.must(err)
	}
	f.rest()
	return signed
}

// submit submits what was signed, one of each of the list, and answers how many were taken and which were refused, for now.
func (f *fullDisk) submit(list []opened, signed []stage.Signed) (kept int, refused []opened) {
	f.t.Helper()
	for i, s := range signed {
		_, err := f.bob.Submit(f.ctx, s)
		switch {
		case err == nil:
			kept++
		case strings.Contains(err.Error(), refusal.Busy): // the mutation's own answer, or that of the whole request
			refused = append(refused, list[i])
		default:
			f.t.Errorf("a decision was answered with %v", err)
		}
	}
	return kept, refused
}

// watchHooks counts the webhooks that are turned away; others are accepted, or it is an error.
func (f *fullDisk) watchHooks() *atomic.Int64 {
	var turnedAway atomic.Int64
	f.proxy.tell(func(r *http.Response) {
		switch {
		case !strings.HasPrefix(r.Request.URL.Path, "/hooks/") || r.StatusCode == http.StatusNoContent:
		case r.StatusCode == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "":
			turnedAway.Add(1)
		default:
			f.t.Errorf("a webhook was answered with %d", r.StatusCode)
		}
	})
	return &turnedAway
}

// untilTurnedAway opens pull requests until their webhooks find no room.
func (f *fullDisk) untilTurnedAway(name string, turnedAway *atomic.Int64) (list []opened) {
	f.t.Helper()
	before := turnedAway.Load()
	next := time.Now()
	f.eventually("webhooks are turned away", func() bool {
		if turnedAway.Load() > before {
			return true
		}
		if now := time.Now(); !now.Before(next) { // the webhooks of one are under way for a moment
			next = now.Add(500 * time.Millisecond)
			list = append(list, f.open(fmt.Sprintf("%s%02d", name, len(list))))
		}
		return false
	})
	return list
}

// nothingGreen fails if one of them shows that it is approved, or is merged.
func (f *fullDisk) nothingGreen(list []opened) {
	f.t.Helper()
	for _, pr := range list {
		if got := f.status(pr.head); got != bitbucket.StatusInProgress {
			f.t.Errorf("pull request %d shows %s", pr.Number, got)
		}
	}
	if n := f.merged(list); n != 0 {
		f.t.Errorf("%d were merged", n)
	}
}

// proceed sees to it that everything goes on: nobody restarts a server.
func (f *fullDisk) proceed(list []opened) {
	f.t.Helper()
	f.proxy.tell(nil)
	f.eventually("the servers are ready", func() bool {
		for _, s := range f.servers {
			if status, _, err := s.get(*s.address.Load(), "/readyz"); err != nil || status != http.StatusOK {
				return false
			}
		}
		return true
	})
	f.reconcileNow() // Bitbucket may have given up on a webhook
	f.eventually("all are found", func() bool {
		for _, pr := range list {
			if f.status(pr.head) == "" {
				return false
			}
		}
		return true
	})
	f.approveBoth(list)
	f.untilMerged(list)
	f.opened = append(f.opened, list...)
}
