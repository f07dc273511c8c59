package gate_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/notify"
	"github.com/signedapproval/bitbucket/server/store"
)

// mailServer takes mail on loopback, and keeps it.
type mailServer struct {
	port  int
	lock  sync.Mutex
	mails []string
	// refuse answers this to every recipient instead of taking the mail.
	refuse string
	// end, where given, says of each mail whether it is taken, and what is answered, "" to hang up without a word. hungUp waits
	// until the sender does.
	end func(hungUp func()) (answer string, taken bool)
}

func newMailServer(t *testing.T) *mailServer {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP address")
	}
	s := &mailServer{port: address.Port}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.talk(conn)
		}
	}()
	return s
}

func (s *mailServer) talk(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	say := func(line string) { _, _ = fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 test")
	lines := bufio.NewScanner(conn)
	var body strings.Builder
	inBody := false
	for lines.Scan() {
		line := lines.Text()
		switch command := strings.ToUpper(line); {
		case inBody && line == ".":
			inBody = false
			answer, taken := "250 taken", true
			if s.end != nil {
				answer, taken = s.end(func() { lines.Scan() })
			}
			if taken {
				s.lock.Lock()
				s.mails = append(s.mails, body.String())
				s.lock.Unlock()
			}
			if answer == "" {
				return
			}
			say(answer)
		case inBody:
			body.WriteString(line + "\n")
		case strings.HasPrefix(command, "RCPT") && s.refuse != "":
			say(s.refuse)
		case strings.HasPrefix(command, "RCPT"):
			body.WriteString(line + "\n")
			say("250 ok")
		case command == "DATA":
			inBody = true
			say("354 go on")
		case command == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *mailServer) taken() []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return append([]string{}, s.mails...)
}

func (w *world) mailThrough(s *mailServer) {
	w.t.Helper()
	mail, err := notify.New(notify.Config{Host: "127.0.0.1", Port: s.port, From: "SignedApproval <gate@approvals.example>"})
	w.must(err)
	w.gate.Mail = mail
	w.sql(`update signedapproval_people set email = lower(name) || '@example.com'`)
}

func (w *world) inbox(who string) (notices []store.Notice) {
	w.t.Helper()
	w.must(w.store.Outside(w.t.Context(), func(sh *store.Shared) (err error) {
		notices, _, err = sh.Notices(w.t.Context(), w.people[who].ID, "", store.Page{})
		return err
	}))
	return notices
}

func TestConfiguredApproversAreNotified(t *testing.T) {
	w := newWorld(t)
	s := newMailServer(t)
	w.mailThrough(s)
	w.save(w.rule(1, "alice", "bob"))
	number := w.open()
	w.settle()
	if n := w.inbox("bob"); len(n) != 1 || n[0].Kind != "APPROVAL_WANTED" || n[0].MailedAt == nil ||
		n[0].Sentence != "Pull request #1 “Add the nozzle” into release/1.0 waits for approval." ||
		n[0].Path != fmt.Sprintf("/sign/%s/%s/%d", w.workspace, w.repository, number) {
		t.Errorf("bob's inbox: %+v", n)
	}
	for _, who := range []string{"alice", "carol"} { // the author, and somebody who is not asked
		if n := w.inbox(who); len(n) != 0 {
			t.Errorf("%s's inbox: %+v", who, n)
		}
	}
	mails := s.taken()
	if len(mails) != 1 || !strings.Contains(mails[0], "bob@example.com") || !strings.Contains(mails[0], origin+"/sign/") {
		t.Errorf("mails: %q", mails)
	}
	w.event(number) // looking again tells nobody again
	w.settle()
	if n, m := w.inbox("bob"), s.taken(); len(n) != 1 || len(m) != 1 {
		t.Errorf("%d notices and %d mails after looking again", len(n), len(m))
	}
	w.push("src/nozzle.go", "package main // next\n")
	w.event(number)
	w.settle()
	if n := w.inbox("bob"); len(n) != 2 {
		t.Errorf("%d notices after a new head", len(n))
	}
}

// What somebody writes as a reason becomes no link in a mail of ours.
func TestAReasonIsNoLinkInAMail(t *testing.T) {
	w := newWorld(t)
	s := newMailServer(t)
	w.save(w.breakable(1, "carol"))
	number := w.open()
	w.settle()
	w.mailThrough(s)
	if _, err := w.override(number, "carol", "The site is down.\n\nhttps://evil.example/sign-in\n\nSign in there."); err != nil {
		t.Fatal(err)
	}
	w.settle()
	mails := s.taken()
	if len(mails) == 0 || !strings.Contains(strings.Join(mails, ""), "evil.example") {
		t.Fatalf("nobody was told: %q", mails)
	}
	for _, mail := range mails {
		if strings.Contains(mail, `<a href="https://evil`) || strings.Contains(mail, `<a href=3D"https://evil`) {
			t.Errorf("it is a link: %s", mail)
		}
	}
}

func TestNoticesAreReadOnceTheyAskForNothing(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	var rung []string
	w.store.Changed = func(_ context.Context, topics []string) { rung = append(rung, topics...) }
	w.decides(number, "bob", approval.Approve)
	w.settle()
	if b, c := w.inbox("bob"), w.inbox("carol"); b[0].ReadAt == nil || c[0].ReadAt != nil {
		t.Errorf("after bob decided: bob's notice read at %v, carol's at %v", b[0].ReadAt, c[0].ReadAt)
	}
	if !slices.Contains(rung, "inbox:"+w.people["carol"].ID) {
		t.Errorf("carol's inbox was not rung: %v", rung)
	}
	w.push("src/nozzle.go", "package main // next\n")
	w.event(number)
	w.settle()
	if c := w.inbox("carol"); len(c) != 2 || c[1].ReadAt == nil || c[0].ReadAt != nil {
		t.Errorf("after a new head, carol's inbox: %+v", c)
	}
}

// TestWaitingListOfALateComer: who signs in for the first time after a request was opened has no
// notice of it, and their waiting list follows all the same.
func TestWaitingListOfALateComer(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	carol := w.people["carol"]
	w.sql(`update signedapproval_people set account_id = 'nobody' where id = $1`, carol.ID)
	number := w.open()
	w.settle()
	w.sql(`update signedapproval_people set account_id = $2 where id = $1`, carol.ID, carol.AccountID)
	if told := w.inbox("carol"); len(told) != 0 {
		t.Fatalf("carol was told: %+v", told)
	}
	var rung []string
	w.store.Changed = func(_ context.Context, topics []string) { rung = append(rung, topics...) }
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"an approval", func() { w.decides(number, "bob", approval.Approve) }},
		{"a commit", func() { w.push("src/nozzle.go", "package main // next\n"); w.event(number) }},
		{"the end of the pull request", func() { w.post(number, "decline", nil); w.event(number) }},
	} {
		rung = nil
		step.do()
		w.settle()
		if !slices.Contains(rung, "inbox:"+carol.ID) {
			t.Errorf("%s did not ring carol's inbox: %v", step.what, rung)
		}
	}
	if slices.Contains(rung, "inbox:"+w.people["alice"].ID) {
		t.Errorf("the inbox of alice, for whom nothing waited, was rung: %v", rung)
	}
}

func TestAMailThatIsRefusedForGoodIsNotTriedForEver(t *testing.T) {
	w := newWorld(t)
	s := newMailServer(t)
	s.refuse = "550 no such user"
	w.mailThrough(s)
	w.save(w.rule(1, "bob"))
	w.open()
	failed := w.drain()
	if len(failed) == 0 || !strings.Contains(failed[0].Error(), "notify") {
		t.Fatalf("failed: %v", failed)
	}
	if n := w.inbox("bob"); len(n) != 1 || n[0].MailedAt != nil {
		t.Errorf("bob's inbox: %+v", n)
	}
}
