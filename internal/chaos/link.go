package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// mode is what a link does with what passes.
type mode int

const (
	open    mode = iota
	refused      // every connection is cut, and new ones at once
	silent       // connections stay, and nothing arrives
)

// link is a TCP proxy between two of the parts, which can be cut.
type link struct {
	name     string
	listener net.Listener
	// target is where it leads now; nil while nobody is there.
	target func() net.Addr
	served sync.WaitGroup
	// hits counts what a cut or silent link has kept from somebody; struck is told of commits that failed.
	hits   atomic.Int64
	struck func(name string)

	mu    sync.Mutex
	mode  mode
	moved chan struct{} // closed when the mode changes
	conns map[net.Conn]bool
	// commits is how many of the next commits of PostgreSQL sessions fail; those that happen lose their
	// answer, the others are lost on the way.
	commits []bool
}

func newLink(ctx context.Context, name string, target func() net.Addr) (*link, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{name: name, listener: listener, target: target, moved: make(chan struct{}), conns: map[net.Conn]bool{}, struck: func(string) {}}
	l.served.Go(l.serve)
	return l, nil
}

func (l *link) addr() string { return l.listener.Addr().String() }

// close ends the link and its connections.
func (l *link) close() error {
	err := l.listener.Close()
	l.set(refused)
	l.served.Wait()
	return err
}

// set changes the mode.
func (l *link) set(m mode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = m
	close(l.moved)
	l.moved = make(chan struct{})
	if m == refused {
		l.hits.Add(int64(len(l.conns)))
		for c := range l.conns {
			_ = c.Close()
		}
	}
}

// failCommits lets the next commits fail.
func (l *link) failCommits(happen ...bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits = append(l.commits, happen...)
}

func (l *link) serve() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.served.Go(func() { l.carry(client) })
	}
}

func (l *link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mode == refused {
		l.hits.Add(1)
		_ = c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

func (l *link) drop(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *link) carry(client net.Conn) {
	if !l.keep(client) {
		return
	}
	defer l.drop(client)
	to := l.target()
	if to == nil {
		return
	}
	server, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial(to.Network(), to.String())
	if err != nil || !l.keep(server) {
		return
	}
	defer l.drop(server)
	var both sync.WaitGroup
	both.Go(func() { l.copy(server, client, l.commitFails); _ = server.Close(); _ = client.Close() })
	both.Go(func() { l.copy(client, server, nil); _ = server.Close(); _ = client.Close() })
	both.Wait()
}

// copy carries what comes, as long as the link lets it. fails, where given, is asked about each piece.
func (l *link) copy(to, from net.Conn, fails func([]byte) (cut, send bool)) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !l.pass() {
				return
			}
			if fails != nil {
				if cut, send := fails(buffer[:n]); cut {
					_ = from.Close() // first, so that no answer comes through
					if send {
						_, _ = to.Write(buffer[:n])
					}
					return
				}
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the link is silent. What a silent link has held back is lost with its connection.
func (l *link) pass() bool {
	held := false
	for {
		l.mu.Lock()
		m, moved := l.mode, l.moved
		l.mu.Unlock()
		switch m {
		case open:
			return !held
		case refused:
			return false
		case silent:
			if !held {
				l.hits.Add(1)
			}
			held = true
			<-moved
		}
	}
}

// A PostgreSQL session says commit alone, in the simple protocol, or behind other statements, as one that it prepared and
// that pgx names after its text.
var (
	commit         = []byte("Q\x00\x00\x00\x0bcommit\x00")
	preparedCommit = func() []byte {
		digest := sha256.Sum256([]byte("commit"))
		return fmt.Appendf(nil, "\x00stmtcache_%x\x00", digest[:24])
	}()
)

// commitFails tells whether a piece holds a commit that is to fail, and whether it happens all the same.
func (l *link) commitFails(piece []byte) (cut, send bool) {
	if !bytes.Contains(piece, commit) && !bytes.Contains(piece, preparedCommit) {
		return false, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.commits) == 0 {
		return false, false
	}
	send, l.commits = l.commits[0], l.commits[1:]
	if send {
		l.struck(commitUnanswered)
	} else {
		l.struck(commitLost)
	}
	return true, send
}

// closeAll ends links.
func closeAll(links []*link) error {
	var failed []error
	for _, l := range links {
		failed = append(failed, l.close())
	}
	return errors.Join(failed...)
}

// healCommits lets commits succeed from here on.
func (l *link) healCommits() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits = nil
}
