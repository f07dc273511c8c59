package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/signedapproval/bitbucket/internal/tether"
	"github.com/signedapproval/bitbucket/server/store"
)

// bareCommand makes this program the bare intake server, in a process of its own as ours is.
const bareCommand = "bare-intake"

// The settings of the bare intake server.
const (
	bareDatabase = "BENCH_BARE_DATABASE"
	bareSecret   = "BENCH_BARE_SECRET"
	bareListen   = "BENCH_BARE_LISTEN"
)

const (
	bareWorkspace  = "11111111-1111-4111-8111-111111111111"
	bareRepository = "22222222-2222-4222-8222-222222222222"
)

// bareIntake is the least that takes a webhook in: read the body, check the HMAC, and commit it with those that came
// meanwhile, by the statement, the compression and the pool of the product. It parses nothing, counts nothing, knows one
// secret and one address, and asks for no job.
func bareIntake() error {
	ctx := context.Background()
	vault, err := store.OpenVault(store.NewKeyset())
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, os.Getenv(bareDatabase), vault)
	if err != nil {
		return err
	}
	type waiting struct {
		store.Delivery
		done chan error
	}
	queue := make(chan waiting, 1024)
	for range 4 {
		go func() {
			for first := range queue {
				batch := []waiting{first}
				for more := true; more && len(batch) < 128; {
					select {
					case next := <-queue:
						batch = append(batch, next)
					default:
						more = false
					}
				}
				deliveries := make([]store.Delivery, len(batch))
				for i, w := range batch {
					deliveries[i] = w.Delivery
				}
				err := db.AcceptDeliveries(ctx, deliveries)
				for _, w := range batch {
					w.done <- err
				}
			}
		}()
	}
	secret := []byte(os.Getenv(bareSecret))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		given, hexErr := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Hub-Signature"), "sha256="))
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		if err != nil || hexErr != nil || !hmac.Equal(given, mac.Sum(nil)) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		one := waiting{done: make(chan error, 1), Delivery: store.Delivery{
			RequestUUID: r.Header.Get("X-Request-UUID"), Workspace: bareWorkspace, Repository: bareRepository,
			EventKey: r.Header.Get("X-Event-Key"), Attempt: 1, Outcome: store.DeliveryParsed, Body: body,
		}}
		queue <- one
		if err := <-one.done; err != nil {
			fmt.Fprintln(os.Stderr, "bare intake:", err)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", os.Getenv(bareListen))
	if err != nil {
		return err
	}
	return (&http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}).Serve(listener)
}

// startBare starts it, and answers its address and secret.
func (w *world) startBare(ctx context.Context) (address, secret string, stop func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return "", "", nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return "", "", nil, err
	}
	address, secret = fmt.Sprintf("127.0.0.1:%d", port), "the secret of the bare intake"
	cmd := exec.Command(program, bareCommand)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), bareDatabase+"="+w.bare.app, bareSecret+"="+secret, bareListen+"="+address)
	process, err := tether.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return "", "", nil, err
	}
	stop = func() { _ = process.Stop(0, syscall.SIGKILL) } // it was killed, and says so
	err = until(ctx, 30*time.Second, "the bare intake listens", func() (bool, error) {
		select {
		case <-process.Done():
			return false, errors.New("the bare intake ended")
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false, nil //nolint:nilerr // it does not listen yet
		}
		return true, conn.Close()
	})
	if err != nil {
		stop()
		return "", "", nil, err
	}
	return address, secret, stop, nil
}
