package witness_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/witness"
)

func TestPublish(t *testing.T) {
	l := newLedger(t)
	folder := t.TempDir()
	keys := newKeys(t, 1)
	p := l.publisher(keys, witness.NewDirectory(folder))
	must(t, p.Check(t.Context()))
	for _, more := range []int{0, 1, 0, 300, 1000} {
		size := l.grow(more)
		must(t, p.Publish(t.Context(), size))
		newest, err := l.NewestCheckpoint(t.Context())
		must(t, err)
		said, root := verify(t, newest.Note, origin, keys.Verifiers()[0])
		if said != size || newest.Size != size || root != newest.Root {
			t.Errorf("checkpoint %d with root %s says %d %s, want %d", newest.Size, newest.Root, said, root, size)
		}
		must(t, p.Check(t.Context()))
	}
	want := []string{"000/000/000/000/000/000", "000/000/000/000/000/001", "000/000/000/000/000/301", "000/000/000/000/001/301"}
	if files := sinkFiles(t, folder); !slices.Equal(files, want) {
		t.Errorf("the sink has %q, want %q", files, want)
	}
	if err := p.Publish(t.Context(), 2000); err == nil {
		t.Error("leaves that are not there were published")
	}
}

func TestRunPublishesWhatNobodyAskedFor(t *testing.T) {
	l := newLedger(t)
	ctx, cancel := context.WithCancel(t.Context())
	published := make(chan error)
	options := l.publisher(newKeys(t, 1), nil).Options
	options.Observe = func(_ time.Duration, err error) {
		select {
		case published <- err:
		case <-ctx.Done():
		}
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := witness.New(options).Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	must(t, <-published) // the empty log
	size := l.grow(3)
	for range 2 { // a publication may have begun before the leaves were there
		must(t, <-published)
		if l.size() == size {
			break
		}
	}
	cancel()
	running.Wait()
	if got := l.size(); got != size {
		t.Errorf("%d leaves are published, want %d", got, size)
	}
}

// TestPublishersAndWriters lets eight writers append and wait until their leaf is published, before two servers that
// share a sink.
func TestPublishersAndWriters(t *testing.T) {
	l := newLedger(t)
	folder := t.TempDir()
	keys := newKeys(t, 2)
	var publications atomic.Int64
	servers := make([]*witness.Publisher, 2)
	for i := range servers {
		options := l.publisher(keys, witness.NewDirectory(folder)).Options
		options.Observe = func(time.Duration, error) { publications.Add(1) }
		servers[i] = witness.New(options)
	}
	const writers, each = 8, 20
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range each {
				err := l.append(t.Context(), fmt.Sprint(w, n), 1)
				if err != nil {
					t.Error(err)
					return
				}
				size, err := l.LogSize(t.Context())
				if err == nil {
					err = servers[(w+n)%2].Publish(t.Context(), size)
				}
				if err != nil {
					t.Error(err)
				}
				if newest, err := l.NewestCheckpoint(t.Context()); err != nil || newest.Size < size {
					t.Errorf("%d leaves are published after %d should be: %v", newest.Size, size, err)
				}
			}
		})
	}
	all.Wait()
	if got := l.size(); got != writers*each {
		t.Errorf("%d leaves are published, want %d", got, writers*each)
	}
	if n := publications.Load(); n > writers*each {
		t.Errorf("%d publications for %d requests", n, writers*each)
	}
	var past witness.Head
	for _, file := range sinkFiles(t, folder) {
		signed, err := os.ReadFile(filepath.Join(folder, file))
		must(t, err)
		size, root := verify(t, signed, origin, keys.Verifiers()[1])
		if want := strings.ReplaceAll(file, "/", ""); want != fmt.Sprintf("%018d", size) {
			t.Errorf("%s has the checkpoint %d", file, size)
		}
		if past.Size > 0 {
			proof, err := tlog.ProveTree(size, past.Size, l.Tree(t.Context()))
			must(t, err)
			must(t, tlog.CheckTree(proof, size, root, past.Size, past.Root))
		}
		past = witness.Head{Size: size, Root: root}
	}
	if past.Size != writers*each {
		t.Errorf("the sink ends at %d", past.Size)
	}
}

// lose takes the log back to five leaves, as a backup does.
const lose = `delete from signedapproval_log_checkpoints where size > 5; delete from signedapproval_leaves where index >= 5;
		delete from signedapproval_log_hashes where (index + 1) << level > 5; update signedapproval_log_tree set size = 5; update signedapproval_log_head set size = 5`

// TestRefusals are what must stop publishing: a log that is not what was published, and a sink that cannot be asked.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]struct {
		harm  func(l *ledger, folder string)
		is    error
		says  string
		leave bool // append no leaf after the harm
	}{
		"a backup was put back": {
			harm: func(l *ledger, _ string) { l.super(lose) }, is: witness.ErrBehind, says: "10 leaves were published, and it has 8",
		},
		"a backup was put back and went on": {
			harm: func(l *ledger, _ string) { l.super(lose); must(l.t, l.append(l.t.Context(), "another", 9)) },
			is:   witness.ErrFork, says: "against the sink",
		},
		"leaves were lost, their checkpoints not": {
			harm: func(l *ledger, _ string) {
				l.super(strings.TrimPrefix(lose, "delete from signedapproval_log_checkpoints where size > 5;"))
			}, is: witness.ErrBehind, says: "against its own record",
		},
		"a leaf was exchanged after it was published": {
			harm: func(l *ledger, _ string) {
				l.super(`update signedapproval_leaves set entry = 'another', hash = sha256('\x00'::bytea || 'another'::bytea) where index = 9`)
				l.super(`update signedapproval_log_hashes set hash = sha256('another') where level = 1 and index = 4`)
			}, is: witness.ErrFork,
		},
		"its own record was exchanged": {
			harm: func(l *ledger, _ string) {
				l.super(`update signedapproval_log_checkpoints set root = sha256('another') where size = 10`)
			},
			is: witness.ErrFork, says: "against its own record",
		},
		"the sink is away": {
			harm: func(l *ledger, folder string) { must(l.t, os.Rename(folder, folder+".away")) }, is: fs.ErrNotExist, says: "sink",
		},
		"the sink cannot be read": {
			harm: func(l *ledger, folder string) {
				must(l.t, os.Remove(filepath.Join(folder, "000/000/000/000/000/010")))
				must(l.t, os.WriteFile(filepath.Join(folder, "000/000/000/000/000/010"), []byte("rubbish"), 0o600))
			}, says: "it is not a signed note",
		},
		"the sink is of another log": {
			harm: func(l *ledger, folder string) {
				private, _, err := witness.NewKey("other.example/log")
				must(l.t, err)
				keys, err := witness.ParseKeys("other.example/log", []byte(private))
				must(l.t, err)
				signed, err := keys.Sign(witness.Head{Size: 10})
				must(l.t, err)
				must(l.t, os.Remove(filepath.Join(folder, "000/000/000/000/000/010")))
				must(l.t, os.WriteFile(filepath.Join(folder, "000/000/000/000/000/010"), signed, 0o600))
			}, says: "it is of the log other.example/log",
		},
		"the sink hangs": {
			harm: func(l *ledger, folder string) {
				pipe := filepath.Join(folder, "000/000/000/000/000/010")
				must(l.t, os.Remove(pipe))
				must(l.t, syscall.Mkfifo(pipe, 0o600))
				l.t.Cleanup(func() { // lets go whoever waits
					if file, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil {
						_ = file.Close()
					}
				})
			}, is: context.DeadlineExceeded, says: "the sink does not answer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t)
			folder := filepath.Join(t.TempDir(), "sink")
			must(t, os.Mkdir(folder, 0o700))
			keys := newKeys(t, 1)
			p := l.publisher(keys, witness.NewDirectory(folder))
			must(t, p.Publish(t.Context(), l.grow(5)))
			must(t, p.Publish(t.Context(), l.grow(5)))
			refusal.harm(l, folder)
			before := l.size()
			size := l.grow(3)
			// The server that was there all the time, and one that starts.
			for who, p := range map[string]*witness.Publisher{"running": p, "starting": l.publisher(keys, witness.NewDirectory(folder))} {
				for _, try := range []struct {
					what string
					do   func(context.Context) error
				}{{"publish", func(ctx context.Context) error { return p.Publish(ctx, max(size, before+1)) }}, {"check", p.Check}} {
					ctx := t.Context() // however busy the machine is, what is wrong is found
					if errors.Is(refusal.is, context.DeadlineExceeded) {
						ctx = soon(t)
					}
					what, err := try.what, try.do(ctx)
					if err == nil {
						t.Errorf("%s, %s: nothing is wrong", who, what)
						continue
					}
					if refusal.is != nil && !errors.Is(err, refusal.is) || !strings.Contains(err.Error(), refusal.says) {
						t.Errorf("%s, %s: %v", who, what, err)
					}
				}
			}
			if after := l.size(); after != before {
				t.Errorf("checkpoint %d was published after %d", after, before)
			}
		})
	}
}

func TestASinkThatTakesNothingMeansNotPublished(t *testing.T) {
	l := newLedger(t)
	folder := t.TempDir()
	p := l.publisher(newKeys(t, 1), witness.NewDirectory(folder))
	must(t, p.Publish(t.Context(), l.grow(1)))
	// A file where the next folder has to be.
	must(t, os.WriteFile(filepath.Join(folder, "000/000/000/000/001"), nil, 0o600))
	if err := p.Publish(t.Context(), l.grow(1500)); err == nil {
		t.Error("it was published")
	}
	if got := l.size(); got != 1 {
		t.Errorf("checkpoint %d is on record", got)
	}
	must(t, os.Remove(filepath.Join(folder, "000/000/000/000/001")))
	must(t, p.Publish(t.Context(), 1501))
}

// TestAServerEndedBetweenSinkAndRecord goes on where the sink has a checkpoint that is not on record.
func TestAServerEndedBetweenSinkAndRecord(t *testing.T) {
	l := newLedger(t)
	folder := t.TempDir()
	keys := newKeys(t, 1)
	options := l.publisher(keys, witness.NewDirectory(folder)).Options
	ended := errors.New("ended")
	options.Log.Put = func(context.Context, witness.Head, []byte, []witness.Cosignature) error { return ended }
	if err := witness.New(options).Publish(t.Context(), l.grow(4)); !errors.Is(err, ended) {
		t.Fatal(err)
	}
	if got := l.size(); got != -1 {
		t.Fatalf("checkpoint %d is on record", got)
	}
	// An empty folder, and a file that was not finished, are no checkpoints.
	must(t, os.MkdirAll(filepath.Join(folder, "000/000/000/000/002"), 0o700))
	must(t, os.WriteFile(filepath.Join(folder, ".checkpoint-1"), []byte("half"), 0o600))
	p := l.publisher(keys, witness.NewDirectory(folder))
	must(t, p.Publish(t.Context(), 4))
	must(t, p.Publish(t.Context(), l.grow(1)))
}

// TestANewNameForALogThatLostItsEnd: with another name, key and sink, a log that was put back goes on as another one.
func TestANewNameForALogThatLostItsEnd(t *testing.T) {
	l := newLedger(t)
	must(t, l.publisher(newKeys(t, 1), witness.NewDirectory(t.TempDir())).Publish(t.Context(), l.grow(4)))
	private, verifier, err := witness.NewKey("second.example/log")
	must(t, err)
	keys, err := witness.ParseKeys("second.example/log", []byte(private))
	must(t, err)
	folder := t.TempDir()
	p := l.publisher(keys, witness.NewDirectory(folder))
	must(t, p.Check(t.Context()))
	must(t, p.Publish(t.Context(), l.grow(1)))
	newest, err := l.NewestCheckpoint(t.Context())
	must(t, err)
	if size, _ := verify(t, newest.Note, "second.example/log", verifier); size != 5 {
		t.Errorf("checkpoint %d", size)
	}
	must(t, p.Check(t.Context()))
}

// TestAServerStartsWhileOthersPublish: what another server publishes between any two looks of one that starts is not taken
// for a log that lost leaves.
func TestAServerStartsWhileOthersPublish(t *testing.T) {
	for kind, newPlace := range places(t) {
		t.Run(kind, func(t *testing.T) {
			l := newLedger(t)
			at := newPlace(t)
			keys := newKeys(t, 1)
			running := l.publisher(keys, openSink(t, at.address))
			must(t, running.Publish(t.Context(), l.grow(3)))
			publishes := func() { must(t, running.Publish(t.Context(), l.grow(2))) }
			log := l.log()
			newest, size, root := log.Newest, log.Size, log.Root
			log.Newest = func(ctx context.Context) (*witness.Checkpoint, error) {
				defer publishes()
				return newest(ctx)
			}
			log.Size = func(ctx context.Context) (int64, error) {
				defer publishes()
				return size(ctx)
			}
			var once sync.Once
			log.Root = func(ctx context.Context, size int64) (tlog.Hash, error) {
				once.Do(publishes)
				return root(ctx, size)
			}
			for range 3 {
				starting := witness.New(witness.Options{Log: log, Keys: keys, Sink: openSink(t, at.address), Logger: slog.New(slog.DiscardHandler)})
				must(t, starting.Check(t.Context()))
			}
		})
	}
}

// TestAPublicationReadsTheLogOnce: who waits for a publication waits for what it needs alone. Its own record is read once, and
// the root that was published is what the tree grew from; only where that is another one is it looked for.
func TestAPublicationReadsTheLogOnce(t *testing.T) {
	l := newLedger(t)
	log := l.log()
	var newest, roots int
	readNewest, readRoot := log.Newest, log.Root
	log.Newest = func(ctx context.Context) (*witness.Checkpoint, error) { newest++; return readNewest(ctx) }
	log.Root = func(ctx context.Context, size int64) (tlog.Hash, error) { roots++; return readRoot(ctx, size) }
	p := witness.New(witness.Options{
		Log: log, Keys: newKeys(t, 1), Sink: witness.NewDirectory(t.TempDir()), Logger: slog.New(slog.DiscardHandler),
	})
	publish := func(what string, size int64, wantNewest, wantRoots int) {
		t.Helper()
		newest, roots = 0, 0
		must(t, p.Publish(t.Context(), size))
		if newest != wantNewest || roots != wantRoots {
			t.Errorf("%s: the record was read %d times and %d roots, want %d and %d", what, newest, roots, wantNewest, wantRoots)
		}
	}
	publish("the first", l.grow(3), 1, 0)
	publish("the second", l.grow(2), 1, 0)
	publish("what is published", 5, 1, 0)
	size := l.grow(1)
	_, _, err := l.GrowTree(t.Context()) // by another server
	must(t, err)
	publish("after another server", size, 1, 1)
}
