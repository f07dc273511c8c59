// Command bitbucketsim serves a simulated Bitbucket Cloud until it is interrupted.
package main

import (
	"context"
	"errors"
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
	var o options
	flag.StringVar(&o.addr, "addr", "127.0.0.1:7990", "address to listen on; port 0 takes a free one")
	flag.StringVar(&o.frames, "frames", "127.0.0.1:0", "address to serve the pages of Forge apps on; port 0 takes a free one")
	flag.StringVar(&o.theme, "theme", "", "style sheet that the pages of Forge apps get when they enable theming")
	flag.StringVar(&o.manifest, "manifest", "", "rendered manifest.yml of a Forge app to register")
	flag.StringVar(&o.remote, "remote", "", "address of the app's remote; the manifest's own where left empty")
	flag.StringVar(&o.url, "url", "", "origin under which it is reached; the address that it listens on where left empty")
	flag.IntVar(&o.calls, "calls", 0, "calls that one grant may make in an hour; 0 as Bitbucket, negative for no limit")
	flag.Parse()
	if err := run(o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	addr, frames, theme, manifest, remote, url string
	calls                                      int
}

// run prints the origin to out, and that of a Forge app's pages, and serves until a signal comes.
func run(o options, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	sim := bitbucketsim.New(bitbucketsim.Options{
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
		BaseURL: o.url, RepositoryCallsPerHour: o.calls, HookCallsPerHour: o.calls,
		Forge: bitbucketsim.ForgeOptions{FrameAddr: o.frames, ThemeFile: o.theme},
	})
	if err := sim.Start(o.addr); err != nil {
		return err
	}
	if err := sim.AddExample(); err != nil {
		return err
	}
	fmt.Fprintln(out, sim.URL())
	if o.manifest != "" {
		app, err := sim.RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: o.manifest, RemoteURL: o.remote})
		if err != nil {
			return errors.Join(err, sim.Close())
		}
		fmt.Fprintln(out, app.FrameOrigin)
	}
	<-ctx.Done()
	return sim.Close()
}
