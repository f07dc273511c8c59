package witness_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/signedapproval/bitbucket/server/witness"
)

func TestMain(m *testing.M) {
	// The object store of these tests takes any credentials; without some, a machine's role would be asked for.
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// place is one for sinks as a test sees it.
type place struct {
	address string
	// names lists what is there, in the order of the sizes.
	names func() []string
	// take removes the checkpoint of a size, and gives what it was.
	take func(size int64) []byte
	// put overwrites the checkpoint of a size.
	put func(size int64, signed []byte)
	// away takes the whole place away.
	away func()
}

// places are one of each kind.
func places(t *testing.T) map[string]func(t *testing.T) place {
	t.Helper()
	return map[string]func(t *testing.T) place{"folder": newFolder, "bucket": func(t *testing.T) place { place, _ := newBucket(t); return place }}
}

func newFolder(t *testing.T) place {
	folder := filepath.Join(t.TempDir(), "sink")
	must(t, os.Mkdir(folder, 0o700))
	file := func(size int64) string { return filepath.Join(folder, sinkPath(size)) }
	return place{
		address: folder,
		names:   func() []string { return sinkFiles(t, folder) },
		take: func(size int64) []byte {
			signed, err := os.ReadFile(file(size))
			must(t, err)
			must(t, os.Remove(file(size)))
			return signed
		},
		put: func(size int64, signed []byte) {
			must(t, os.MkdirAll(filepath.Dir(file(size)), 0o700))
			must(t, os.WriteFile(file(size), signed, 0o600))
		},
		away: func() { must(t, os.Rename(folder, folder+".away")) },
	}
}

// newBucket starts an object store. Each request passes before it is answered.
func newBucket(t *testing.T) (place, *atomic.Pointer[func(*http.Request)]) {
	const bucket = "checkpoints"
	backend := s3mem.New()
	must(t, backend.CreateBucket(bucket))
	var before atomic.Pointer[func(*http.Request)]
	handler := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if change := before.Load(); change != nil {
			(*change)(r)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	key := func(size int64) string { return "log/" + bucketKey(size) }
	return place{
		address: "s3://" + bucket + "/log?region=eu-central-1&endpoint=" + url.QueryEscape(server.URL),
		names: func() (names []string) {
			list, err := backend.ListBucket(bucket, nil, gofakes3.ListBucketPage{})
			must(t, err)
			for _, object := range list.Contents {
				names = append(names, strings.TrimPrefix(object.Key, "log/"))
			}
			slices.Reverse(names)
			return names
		},
		take: func(size int64) []byte {
			object, err := backend.GetObject(bucket, key(size), nil)
			must(t, err)
			signed, err := io.ReadAll(object.Contents)
			must(t, err)
			_, err = backend.DeleteObject(bucket, key(size))
			must(t, err)
			return signed
		},
		put: func(size int64, signed []byte) {
			_, err := backend.PutObject(bucket, key(size), map[string]string{"Last-Modified": time.Now().UTC().Format(http.TimeFormat)}, strings.NewReader(string(signed)), int64(len(signed)), nil)
			must(t, err)
		},
		away: server.Close,
	}, &before
}

func openSink(t *testing.T, address string) witness.Sink {
	t.Helper()
	sink, err := witness.OpenSink(address)
	must(t, err)
	return sink
}

// TestSinks are what holds of a sink, wherever it is.
func TestSinks(t *testing.T) {
	t.Parallel()
	for kind, newPlace := range places(t) {
		for name, run := range map[string]func(t *testing.T, l *ledger, at place){
			"publications": func(t *testing.T, l *ledger, at place) {
				keys := newKeys(t, 1)
				p := l.publisher(keys, openSink(t, at.address))
				must(t, p.Check(t.Context()))
				for _, more := range []int{0, 1, 1, 300, 1000} {
					must(t, p.Publish(t.Context(), l.grow(more)))
					must(t, p.Check(t.Context()))
				}
				want := []int64{0, 1, 2, 302, 1302}
				if got := at.names(); !slices.Equal(got, namesOf(kind, want...)) {
					t.Errorf("there is %q", got)
				}
				if size, _ := verify(t, at.take(302), origin, keys.Verifiers()[0]); size != 302 {
					t.Errorf("it says %d", size)
				}
				// What lies there besides is nobody's.
				must(t, p.Publish(t.Context(), l.grow(1)))
			},
			"it is emptied": func(t *testing.T, l *ledger, at place) {
				keys := newKeys(t, 1)
				p := l.publisher(keys, openSink(t, at.address))
				must(t, p.Publish(t.Context(), l.grow(3)))
				must(t, p.Publish(t.Context(), l.grow(3)))
				at.take(3)
				newest := at.take(6)
				refuses(t, l, keys, p, at, witness.ErrSinkLacks)
				at.put(6, newest)
				must(t, p.Publish(t.Context(), 7))
			},
			"its end is taken away": func(t *testing.T, l *ledger, at place) {
				keys := newKeys(t, 1)
				p := l.publisher(keys, openSink(t, at.address))
				must(t, p.Publish(t.Context(), l.grow(3)))
				must(t, p.Publish(t.Context(), l.grow(3)))
				at.take(6)
				refuses(t, l, keys, p, at, witness.ErrSinkLacks)
				size, err := witness.AdoptSink(t.Context(), l.log(), origin, openSink(t, at.address))
				if err != nil || size != 6 {
					t.Fatalf("adopted at %d: %v", size, err)
				}
				must(t, p.Publish(t.Context(), 7))
				if got := at.names(); !slices.Equal(got, namesOf(kind, 3, 6, 7)) {
					t.Errorf("there is %q", got)
				}
			},
			"a new one": func(t *testing.T, l *ledger, at place) {
				keys := newKeys(t, 1)
				if size, err := witness.AdoptSink(t.Context(), l.log(), origin, openSink(t, at.address)); err != nil || size != -1 {
					t.Errorf("nothing was adopted at %d: %v", size, err)
				}
				must(t, l.publisher(keys, nil).Publish(t.Context(), l.grow(4)))
				p := l.publisher(keys, openSink(t, at.address))
				refuses(t, l, keys, p, at, witness.ErrSinkLacks)
				_, err := witness.AdoptSink(t.Context(), l.log(), origin, openSink(t, at.address))
				must(t, err)
				must(t, p.Publish(t.Context(), 5))
				// Adopting what lacks nothing changes nothing.
				if size, err := witness.AdoptSink(t.Context(), l.log(), origin, openSink(t, at.address)); err != nil || size != 5 {
					t.Errorf("adopted again at %d: %v", size, err)
				}
			},
			"one ahead of the log is not adopted": func(t *testing.T, l *ledger, at place) {
				keys := newKeys(t, 1)
				p := l.publisher(keys, openSink(t, at.address))
				must(t, p.Publish(t.Context(), l.grow(5)))
				must(t, p.Publish(t.Context(), l.grow(5)))
				l.super(lose)
				refuses(t, l, keys, p, at, witness.ErrBehind)
				if _, err := witness.AdoptSink(t.Context(), l.log(), origin, openSink(t, at.address)); !errors.Is(err, witness.ErrBehind) {
					t.Errorf("adopted: %v", err)
				}
			},
			"what is older is another log's": func(t *testing.T, l *ledger, at place) {
				keys := newKeys(t, 1)
				p := l.publisher(keys, openSink(t, at.address))
				for range 4 {
					must(t, p.Publish(t.Context(), l.grow(3)))
				}
				signed, err := keys.Sign(witness.Head{Size: 6})
				must(t, err)
				at.take(6)
				at.put(6, signed)
				// The server that runs compared it when it started; one that starts does so now.
				starting := l.publisher(keys, openSink(t, at.address))
				for what, err := range map[string]error{"check": starting.Check(t.Context()), "publish": starting.Publish(t.Context(), l.grow(1))} {
					if !errors.Is(err, witness.ErrFork) || !strings.Contains(err.Error(), "against the sink") {
						t.Errorf("%s: %v", what, err)
					}
				}
				if _, err := witness.AdoptSink(t.Context(), l.log(), origin, openSink(t, at.address)); !errors.Is(err, witness.ErrFork) {
					t.Errorf("adopted: %v", err)
				}
			},
			"one checkpoint in the place of another": func(t *testing.T, l *ledger, at place) {
				keys := newKeys(t, 1)
				p := l.publisher(keys, openSink(t, at.address))
				must(t, p.Publish(t.Context(), l.grow(3)))
				must(t, p.Publish(t.Context(), l.grow(3)))
				at.put(6, at.take(3))
				if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "it is one of 3 leaves") {
					t.Errorf("check: %v", err)
				}
			},
			"it is away": func(t *testing.T, l *ledger, at place) {
				keys := newKeys(t, 1)
				p := l.publisher(keys, openSink(t, at.address))
				must(t, p.Publish(t.Context(), l.grow(3)))
				at.away()
				size := l.grow(1)
				for who, p := range map[string]*witness.Publisher{"running": p, "starting": l.publisher(keys, openSink(t, at.address))} {
					for what, err := range map[string]error{"check": p.Check(soon(t)), "publish": p.Publish(soon(t), size)} {
						if err == nil || errors.Is(err, witness.ErrSinkLacks) || !strings.Contains(err.Error(), "sink") {
							t.Errorf("%s, %s: %v", who, what, err)
						}
					}
				}
				if _, err := witness.AdoptSink(soon(t), l.log(), origin, openSink(t, at.address)); err == nil {
					t.Error("it was adopted")
				}
				if l.size() != 3 {
					t.Errorf("checkpoint %d was published", l.size())
				}
			},
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				l := newLedger(t)
				run(t, l, newPlace(t))
			})
		}
	}
}

// refuses makes sure that neither a server that runs nor one that starts publishes anything.
func refuses(t *testing.T, l *ledger, keys *witness.Keys, running *witness.Publisher, at place, want error) {
	t.Helper()
	before, names := l.size(), at.names()
	size := l.grow(1)
	for who, p := range map[string]*witness.Publisher{"running": running, "starting": l.publisher(keys, openSink(t, at.address))} {
		for _, try := range []struct {
			what string
			do   func(context.Context) error
		}{{"publish", func(ctx context.Context) error { return p.Publish(ctx, max(size, before+1)) }}, {"check", p.Check}} {
			if err := try.do(t.Context()); !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", who, try.what, err, want)
			}
		}
	}
	if l.size() != before || !slices.Equal(at.names(), names) {
		t.Errorf("checkpoint %d was published, and there is %q", l.size(), at.names())
	}
}

// TestTheAuditOfALongSink reads back to the beginning by halves, and not everything.
func TestTheAuditOfALongSink(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	at := newFolder(t)
	p := l.publisher(keys, openSink(t, at.address))
	for range 90 {
		must(t, p.Publish(t.Context(), l.grow(1)))
	}
	must(t, l.publisher(keys, openSink(t, at.address)).Check(t.Context()))
	for _, exchanged := range []int64{90, 27, 13, 6, 3, 1} { // among the newest; then half of 27, of 13 and so on
		was := at.take(exchanged)
		signed, err := keys.Sign(witness.Head{Size: exchanged})
		must(t, err)
		at.put(exchanged, signed)
		if err := l.publisher(keys, openSink(t, at.address)).Check(t.Context()); !errors.Is(err, witness.ErrFork) {
			t.Errorf("checkpoint %d was exchanged: %v", exchanged, err)
		}
		at.take(exchanged)
		at.put(exchanged, was)
	}
	must(t, l.publisher(keys, openSink(t, at.address)).Check(t.Context()))
}

// TestAnObjectStoreThatOverwrites is none to trust.
func TestAnObjectStoreThatOverwrites(t *testing.T) {
	l := newLedger(t)
	at, before := newBucket(t)
	forget := func(r *http.Request) { r.Header.Del("If-None-Match") }
	before.Store(&forget)
	p := l.publisher(newKeys(t, 1), openSink(t, at.address))
	if err := p.Publish(t.Context(), l.grow(1)); err == nil || !strings.Contains(err.Error(), "overwrites") {
		t.Errorf("it was taken: %v", err)
	}
	if l.size() != -1 {
		t.Error("it was published")
	}
	before.Store(nil)
	must(t, p.Publish(t.Context(), 1))
}

// TestObjectsOfOthers below the same prefix are passed over.
func TestObjectsOfOthers(t *testing.T) {
	l := newLedger(t)
	at, _ := newBucket(t)
	p := l.publisher(newKeys(t, 1), openSink(t, at.address))
	must(t, p.Publish(t.Context(), l.grow(3)))
	backend := openSink(t, strings.Replace(at.address, "/log?", "/log/000000000000000000-9?", 1))
	other := l.publisher(newKeys(t, 1), backend) // its objects are between ours
	if _, err := witness.AdoptSink(t.Context(), l.log(), origin, backend); err != nil {
		t.Fatal(err)
	}
	must(t, other.Check(t.Context()))
	must(t, p.Publish(t.Context(), l.grow(3)))
	must(t, l.publisher(newKeys(t, 1), openSink(t, at.address)).Check(t.Context()))
}

func TestOpenSink(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"checkpoints": "checkpoints", "/var/checkpoints/": "/var/checkpoints", "s3://b": "s3://b", "s3://b/p/q/": "s3://b/p/q",
		"s3://b/p?endpoint=https://objects.example&region=r": "s3://b/p",
	} {
		if sink, err := witness.OpenSink(address); err != nil || sink.String() != want {
			t.Errorf("%s: %v, %v", address, sink, err)
		}
	}
	for _, address := range []string{
		"s3:", "s3://", "s3:///p", "s3://user:secret@b/p", "s3://b?endpoint=http://objects.example", "s3://b?endpoint=objects", "s3://b?acl=public",
		"s3://b?endpoint=https://user:secret@objects.example", "s3://b?endpoint=https://objects.example/path",
	} {
		if sink, err := witness.OpenSink(address); err == nil {
			t.Errorf("%s: it was taken as %s", address, sink)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error quotes a secret: %v", address, err)
		}
	}
	if _, err := os.Stat("checkpoints"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("opening a sink made it")
	}
}
