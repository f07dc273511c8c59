// Command bitbucketsim serves a simulated Bitbucket Cloud until it is interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7990", "address to listen on; port 0 takes a free one")
	flag.Parse()
	if err := run(*addr, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run prints the origin to out and serves until a signal comes.
func run(addr string, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	sim := bitbucketsim.New(bitbucketsim.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err := sim.Start(addr); err != nil {
		return err
	}
	if err := sim.AddExample(); err != nil {
		return err
	}
	fmt.Fprintln(out, sim.URL())
	<-ctx.Done()
	return sim.Close()
}
