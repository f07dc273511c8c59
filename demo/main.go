// Command demo plays the whole story of a gated pull request against a simulated Bitbucket, and
// then stays up for a browser. Nothing is faked but Bitbucket itself: the server is the real
// binary, reached through its public doors only, on a real PostgreSQL.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir := flag.String("dir", ".demo", "where the binary, the server's log and the evidence go")
	hold := flag.Bool("hold", false, "start everything and play nothing: for the browser tests")
	info := flag.String("json", "", "write the addresses to this file once everything is up")
	flag.Parse()
	started := time.Now()
	first := usual
	if *hold { // several may start at the same time, and nobody types their addresses
		first = ports{}
	}
	s, err := start(ctx, *dir, first)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if *info != "" {
		if err := writeInfo(*info, s); err != nil {
			return err
		}
	}
	if *hold {
		<-ctx.Done()
		return nil
	}
	fmt.Printf("SignedApproval is up after %s: PostgreSQL, Redis, a simulated Bitbucket and the server\n\n", since(started))
	t := &tale{stack: s, dir: *dir}
	if err := t.play(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err) // now: stopping takes a moment
		return fmt.Errorf("the story broke off; the server's log is %s", filepath.Join(*dir, "server.log"))
	}
	if os.Getenv("DEMO") == "once" {
		return nil
	}
	fmt.Printf("\nDashboard            %s\nSimulated Bitbucket  %s   (log in as alice, bob or carol)\n\nPress Ctrl-C to end.\n", s.origin, s.sim.URL())
	<-ctx.Done()
	return nil
}

// writeInfo tells other programs where everything is, in one step so that nobody reads half of it.
func writeInfo(path string, s *stack) error {
	data, err := json.Marshal(map[string]string{"server": s.origin, "bitbucket": s.sim.URL()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func since(t time.Time) string { return time.Since(t).Round(time.Millisecond).String() }
