package app_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/signedapproval/bitbucket/internal/tether"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/witness"
)

// sinkPlace is a sink as its operator sees it.
type sinkPlace struct {
	address string
	put     func(size int, signed []byte)
	take    func(size int)
	away    func()
}

func folderSink(t *testing.T) sinkPlace {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "log")
	at := func(size int) (folderOf, name string) {
		digits := fmt.Sprintf("%018d", size)
		return filepath.Join(folder, digits[:3], digits[3:6], digits[6:9], digits[9:12], digits[12:15]), digits[15:]
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(folder, 0o700))
	return sinkPlace{
		address: folder,
		put: func(size int, signed []byte) {
			folder, name := at(size)
			must(os.MkdirAll(folder, 0o700))
			write(t, folder, name, string(signed))
		},
		take: func(size int) { must(os.Remove(filepath.Join(at(size)))) },
		away: func() { must(os.Rename(folder, folder+".away")) },
	}
}

func bucketSink(t *testing.T) sinkPlace {
	t.Helper()
	const bucket = "checkpoints"
	backend := s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	store := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(store.Close)
	key := func(size int) string { return fmt.Sprintf("log/%018d-%d", 999_999_999_999_999_999-size, size) }
	return sinkPlace{
		address: "s3://" + bucket + "/log?region=eu-central-1&endpoint=" + url.QueryEscape(store.URL),
		put: func(size int, signed []byte) {
			if _, err := backend.PutObject(bucket, key(size), map[string]string{"Last-Modified": time.Now().UTC().Format(http.TimeFormat)}, bytes.NewReader(signed), int64(len(signed)), nil); err != nil {
				t.Fatal(err)
			}
		},
		take: func(size int) {
			if _, err := backend.DeleteObject(bucket, key(size)); err != nil {
				t.Fatal(err)
			}
		},
		away: store.Close,
	}
}

// publishNothing has the empty log published, and kept in the database alone.
func publishNothing(t *testing.T, config app.Config) {
	t.Helper()
	server, stop := serving(t, config)
	defer stop()
	eventually(t, "the empty log is published", func() bool {
		got := httptest.NewRecorder()
		server.Handler().ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/log/checkpoint", nil))
		return got.Code == http.StatusOK
	})
}

// TestAServerIsNotStartedBesideItsSink runs the program itself, for each kind of sink: where the log is not what the sink
// has, or the sink cannot be read, it ends with a code before it serves anything, and otherwise it serves.
func TestAServerIsNotStartedBesideItsSink(t *testing.T) {
	t.Parallel()
	for kind, newSink := range map[string]func(*testing.T) sinkPlace{"folder": folderSink, "bucket": bucketSink} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			config := logConfig(t)
			if err := config.Validate(); err != nil {
				t.Fatal(err)
			}
			publishNothing(t, config)
			sink := newSink(t)
			path, err := program()
			if err != nil {
				t.Fatal(err)
			}
			environment := append(os.Environ(),
				"SIGNEDAPPROVAL_ORIGIN="+config.Origin, "SIGNEDAPPROVAL_LISTEN=127.0.0.1:0", "DATABASE_URL="+config.DatabaseURL, "REDIS_URL="+config.RedisURL,
				"SIGNEDAPPROVAL_KEYSET="+config.Keyset, "SIGNEDAPPROVAL_CONNECT_KEY=k", "SIGNEDAPPROVAL_CONNECT_SECRET=s", "SIGNEDAPPROVAL_SIGN_IN_KEY=k",
				"SIGNEDAPPROVAL_SIGN_IN_SECRET=s", "SIGNEDAPPROVAL_LOG_KEY="+config.LogKey, "SIGNEDAPPROVAL_LOG_ORIGIN="+config.LogOrigin,
				"SIGNEDAPPROVAL_LOG_SINK="+sink.address, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
			)
			run := func(args ...string) (code int, out string) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, path, args...)
				cmd.Env = environment
				text, err := cmd.CombinedOutput()
				if cmd.ProcessState == nil || ctx.Err() != nil {
					t.Fatalf("%q: %v\n%s", args, err, text)
				}
				return cmd.ProcessState.ExitCode(), string(text)
			}
			refused := func(code, why string) {
				t.Helper()
				exit, out := run("serve")
				if last := out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]; exit != 1 || !strings.HasPrefix(last, "signedapproval: "+code+": the server does not start") ||
					!strings.Contains(last, why) || !strings.Contains(last, "signedapproval log adopt-sink") {
					t.Errorf("%s: exit %d\n%s", code, exit, out)
				}
				if strings.Contains(out, `"serving"`) {
					t.Errorf("%s: it served\n%s", code, out)
				}
			}
			refused("SINK_LACKS_CHECKPOINT", witness.ErrSinkLacks.Error())
			if exit, out := run("log", "adopt-sink"); exit != 0 || !strings.Contains(out, "has the checkpoint 0") {
				t.Fatalf("exit %d\n%s", exit, out)
			}

			cmd := exec.CommandContext(t.Context(), path, "serve")
			log, serving := &journal{}, make(chan string, 1)
			cmd.Env, cmd.Stdout, cmd.Stderr = environment, log, &announcer{to: log, serving: serving}
			process, err := tether.Start(cmd, syscall.SIGKILL)
			if err != nil {
				t.Fatal(err)
			}
			served := false
			select {
			case <-serving:
				served = true
			case <-process.Done():
			}
			if err := process.Stop(time.Minute, syscall.SIGTERM); !served {
				t.Fatalf("with its sink: %v\n%s", err, log.tail(4000))
			}

			keys, err := config.ReadLogKeys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			another, err := keys.Sign(witness.Head{})
			if err != nil {
				t.Fatal(err)
			}
			ahead, err := keys.Sign(witness.Head{Size: 4})
			if err != nil {
				t.Fatal(err)
			}
			sink.put(4, ahead)
			refused("LOG_BEHIND_SINK", "4 leaves were published, and it has 0")
			sink.take(4)
			sink.take(0)
			sink.put(0, another)
			refused("LOG_NOT_AS_PUBLISHED", witness.ErrFork.Error())
			sink.away()
			refused("SINK_CANNOT_BE_READ", witness.ErrSinkUnread.Error())
		})
	}
}
