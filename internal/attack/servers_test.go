package attack_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	screen "github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/witness"
)

func onServers() []attack {
	return []attack{
		{
			wants: "replay a signed approval against the running server, again and by somebody else", caught: replayed,
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				p := l.open("pump")
				signed, err := l.bob.Sign(l.ctx, p.Place, "APPROVE")
				must(t, err)
				// bob's answer, in carol's session.
				_, err = l.carol.Submit(l.ctx, signed)
				got = append(got, refusal(err))
				_, err = l.bob.Submit(l.ctx, signed)
				must(t, err) // the control: it is good, once
				_, err = l.bob.Submit(l.ctx, signed)
				got = append(got, refusal(err))
				if n := len(l.sql(`select id::text from signedapproval_decisions`)); n != 1 {
					t.Errorf("%d decisions", n)
				}
				return got
			},
		},
		{
			wants: "have the running server file what X signed for another workspace, in the place of the statement that it keeps", caught: []string{"step 7 statements: invalid"},
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				honest := l.approve(l.open("pump"))
				l.pin()
				l.control(honest)
				p := l.open("valve")
				_, err := l.bob.Submit(l.ctx, l.swapped(l.bob, p, func(s *evidence.Statement) { s.Workspace = uuid("elsewhere") }))
				must(t, err)
				return append(got, l.mergedOf(p, l.carol)...)
			},
		},
		{
			wants: "have the running server file what X signs for a later time, in the place of the statement that it keeps", caught: []string{"server: CHALLENGE"},
			try: func(t *testing.T) []string {
				l := newLive(t)
				p := l.open("pump")
				_, err := l.bob.Submit(l.ctx, l.swapped(l.bob, p, func(*evidence.Statement) {}))
				must(t, err) // the control: what is kept can be swapped
				later := l.swapped(l.carol, p, func(s *evidence.Statement) {
					s.IssuedAt, s.ExpiresAt = s.IssuedAt.Add(time.Hour), s.ExpiresAt.Add(time.Hour)
				})
				_, err = l.carol.Submit(l.ctx, later)
				return []string{refusal(err)}
			},
		},
		{
			wants:  "land something else with the app's token, past the running server",
			caught: []string{"exit 0 for the honest one", "monitor: violation", "audit: violation", "audit: violation"}, admits: "merge around the gate",
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				honest := l.approve(l.open("pump"))
				l.pin()
				l.control(honest)
				p := l.open("valve")
				_, err := l.asApp().Merge(l.ctx, "acme", "rocket", p.Number, bitbucket.MergeOptions{Message: "x", Strategy: bitbucket.MergeCommit})
				must(t, err)
				landed := l.merged(p)
				pushed, err := l.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: branch, Person: "alice", Files: map[string]string{"around.txt": "around\n"}})
				must(t, err)
				if code, out := l.evidence(honest); code == 0 {
					got = append(got, "exit 0 for the honest one")
				} else {
					t.Error(out)
				}
				got = append(got, l.watch(l.anchors)...)
				code, out := l.run("audit", "--workspace=acme", "--repository=rocket", "--branch="+branch, "--from=2020-01-01")
				for _, commit := range []string{landed, pushed.Hash} {
					for _, row := range strings.Split(out, "\n") {
						if strings.Contains(row, commit) && strings.Contains(row, "violation") {
							got = append(got, "audit: violation")
							break
						}
					}
				}
				if len(got) != 4 {
					t.Errorf("exit %d\n%s", code, out)
				}
				return got
			},
		},
		{
			wants:  "put the database back to a dump, checkpoints and all",
			caught: []string{"not started: LOG_BEHIND_SINK", "witness refuses: 409", "monitor: rollback"},
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				l.merged(l.approved("pump"))
				l.stop()
				dump := l.dump()
				must(t, l.start())
				landed := l.approve(l.open("valve"))
				l.pin()
				l.control(landed)
				l.stop()
				l.restore(dump)
				got = append(got, l.notStarted("LOG_BEHIND_SINK"))
				// Without its sink it starts, and the witness knows.
				before := l.refused.Load()
				must(t, l.start("--log-sink"))
				l.open("other")
				l.eventually("the witness is asked", func() bool { return l.refused.Load() > before })
				got = append(got, "witness refuses: 409")
				return append(got, l.watch(l.anchors)...)
			},
		},
		{
			wants:  "rewrite a leaf in the database, make the tree again and sign all checkpoints again",
			caught: []string{"not started: LOG_NOT_AS_PUBLISHED", "monitor: checkpoint_unwitnessed", "monitor: fork"},
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				landed := l.approve(l.open("pump"))
				l.pin()
				l.control(landed)
				l.stop()
				l.rewrite()
				got = append(got, l.notStarted("LOG_NOT_AS_PUBLISHED"))
				must(t, l.start("--log-sink"))
				got = append(got, l.watch(l.anchors)...)
				return append(got, l.watch(l.loose)...)
			},
		},
	}
}

// swapped is what somebody signs of another page, while the operator puts it in the place of what its server keeps.
func (l *live) swapped(who *screen.Person, p pull, restate func(s *evidence.Statement)) screen.Signed {
	l.t.Helper()
	signed, err := who.SignInstead(l.ctx, p.Place, "APPROVE", func(statement []byte) ([]byte, error) {
		s, err := evidence.ParseStatement(statement)
		if err != nil {
			return nil, err
		}
		restate(&s)
		other, err := s.Canonical()
		if err != nil {
			return nil, err
		}
		kept := l.sql(`select convert_from(data, 'UTF8') from signedapproval_challenges where challenge = $1`, evidence.Challenge(statement))
		data := strings.Replace(kept[0], base64.StdEncoding.EncodeToString(statement), base64.StdEncoding.EncodeToString(other), 1)
		l.sql(`update signedapproval_challenges set challenge = $1, data = $2 where challenge = $3`,
			evidence.Challenge(other), []byte(data), evidence.Challenge(statement))
		return other, nil
	})
	must(l.t, err)
	return signed
}

// replayed are the server's codes for what was signed for another session, and for what was used.
var replayed = []string{"server: CHALLENGE", "server: CHALLENGE"}

// refusal is the code with which the server refused.
func refusal(err error) string {
	var r *screen.Refusal
	if errors.As(err, &r) {
		return "server: " + r.Code
	}
	return fmt.Sprint("server: ", err)
}

// notStarted starts a server, which must end with a code, since its log is not what its sink has.
func (l *live) notStarted(code string) string {
	l.t.Helper()
	if err := l.start(); err == nil || !strings.Contains(err.Error(), "signedapproval: "+code+": ") || !strings.Contains(err.Error(), "against the sink") {
		l.t.Fatalf("want %s, got %v", code, err)
	}
	return "not started: " + code
}

// approved is a pull request that bob and carol have approved.
func (l *live) approved(name string) pull {
	l.t.Helper()
	p := l.open(name)
	l.approve(p)
	return p
}

// elsewhere is the address of another database on the same server.
func (l *live) elsewhere(name string) string {
	l.t.Helper()
	address, err := url.Parse(l.db.SuperURL)
	must(l.t, err)
	address.Path = "/" + name
	return address.String()
}

// dump copies the whole database, while no server runs.
func (l *live) dump() (name string) {
	l.t.Helper()
	name = l.db.Name + "_dump"
	query(l.t, l.elsewhere("postgres"), "create database "+name+" template "+l.db.Name)
	return name
}

// restore puts the dump into the place of the database.
func (l *live) restore(dump string) {
	l.t.Helper()
	away := l.db.Name + "_newer"
	query(l.t, l.elsewhere("postgres"), "alter database "+l.db.Name+" rename to "+away)
	l.t.Cleanup(func() { query(l.t, l.elsewhere("postgres"), "drop database "+away+" with (force)") })
	query(l.t, l.elsewhere("postgres"), "alter database "+dump+" rename to "+l.db.Name)
}

// rewrite takes a minute from the time of the last leaf, makes the hashes of the tree again, and signs every checkpoint
// on record again.
func (l *live) rewrite() {
	l.t.Helper()
	var entries [][]byte
	for _, text := range l.sql(`select encode(entry, 'hex') from signedapproval_leaves order by index`) {
		entries = append(entries, unhex(l.t, text))
	}
	last := len(entries) - 1
	leaf, err := evidence.ParseLeaf(entries[last])
	must(l.t, err)
	leaf.Time = leaf.Time.Add(-1)
	entries[last], err = leaf.Entry()
	must(l.t, err)
	hash := evidence.LeafHash(entries[last])
	l.sql(`update signedapproval_leaves set entry = $1, hash = $2 where index = $3`, entries[last], hash[:], last)
	stored := newTree(l.t, entries)
	for level := 1; 1<<level <= len(entries); level++ {
		for n := 0; (n+1)<<level <= len(entries); n++ {
			node := stored[tlog.StoredHashIndex(level, int64(n))]
			l.sql(`update signedapproval_log_hashes set hash = $1 where level = $2 and index = $3`, node[:], level, n)
		}
	}
	for _, size := range l.sql(`select size::text from signedapproval_log_checkpoints`) {
		var n int64
		_, err := fmt.Sscan(size, &n)
		must(l.t, err)
		root, err := tlog.TreeHash(n, stored)
		must(l.t, err)
		note, err := l.keys.Sign(witness.Head{Size: n, Root: root})
		must(l.t, err)
		l.sql(`update signedapproval_log_checkpoints set root = $1, note = $2 where size = $3`, root[:], note, n)
	}
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	must(t, err)
	return raw
}
