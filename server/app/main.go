package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/alecthomas/kong"

	"github.com/signedapproval/bitbucket/migrations"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// commands is the command line.
type commands struct {
	Serve       serveCommand       `cmd:"" help:"Serve the dashboard, the API and the webhooks, and do the jobs."`
	Migrate     migrateCommand     `cmd:"" help:"Bring the database's schema up to date, as the owner of the tables."`
	Keys        keysCommand        `cmd:"" help:"The keyset that seals tokens at rest."`
	Log         logCommand         `cmd:"" help:"The log of everything that matters."`
	Attestation attestationCommand `cmd:"" help:"What the service says in its own name."`
	Audit       auditCommand       `cmd:"" help:"List every commit that reached a protected branch, with its evidence, its override, or as a violation."`
	People      peopleCommand      `cmd:"" help:"The people who are known here."`
	Jobs        jobsCommand        `cmd:"" help:"Jobs that gave up."`
	Evidence    evidenceCommand    `cmd:"" help:"Evidence bundles."`
	Verify      verifyCommand      `cmd:"" help:"Verify an evidence bundle offline, or that a commit was approved."`
	Anchors     anchorsCommand     `cmd:"" help:"What a verifier pins."`
	Monitor     monitorCommand     `cmd:"" help:"Follow the log as an auditor, and compare what auditors saw."`
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// exit is an error that names the exit code; the text was printed already.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Main runs the command line and gives the exit code. It is the composition root of the binary and
// of the tests that run the whole thing.
func Main(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) (exitCode int) {
	// A program that panics ends with the exit code 2, which a verifier has another use for.
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(errs, "signedapproval: internal error: %v\n%s", p, debug.Stack())
			exitCode = 1
		}
	}()
	var cli commands
	code := -1
	parser, err := kong.New(&cli, kong.Name("signedapproval"), kong.Description("A merge gate for Bitbucket Cloud."),
		kong.Writers(out, errs), kong.Exit(func(c int) { code = c }), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(streams{in, out, errs}))
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	command, err := parser.Parse(args)
	if code >= 0 {
		return code // --help
	}
	if err == nil {
		err = command.Run()
	}
	var wanted exit
	switch {
	case errors.As(err, &wanted):
		return int(wanted)
	case err != nil:
		fmt.Fprintln(errs, "signedapproval:", plainLines(err.Error())) // a server's or a bundle's words can be in it
		return 1
	}
	return 0
}

type serveCommand struct{ Config }

// Run serves until ctx ends. The parser has validated the configuration.
func (c *serveCommand) Run(ctx context.Context, s streams) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(s.err, &slog.HandlerOptions{Level: level}))
	stopped := make(chan struct{})
	defer close(stopped)
	context.AfterFunc(ctx, func() {
		select {
		case <-stopped:
		case <-time.After(stopLimit):
			log.Error("the server does not stop; another takes over what it holds")
			os.Exit(1)
		}
	})
	server, err := New(ctx, c.Config, log)
	if err != nil {
		return err
	}
	defer server.Close()
	if err := server.checkSchema(ctx); err != nil {
		return err
	}
	if err := server.compareLog(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop
		}
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	if c.AdminListen != "" {
		admin := &http.Server{Addr: c.AdminListen, Handler: server.Metrics(), ReadHeaderTimeout: 5 * time.Second}
		defer func() { _ = admin.Close() }()
		go func() {
			if err := admin.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				log.Error("the metrics are not served", "error", err)
			}
		}()
	}
	server.reloadOnHangup(ctx)
	log.Info("serving", "origin", c.Origin, "address", listener.Addr().String())
	return server.Run(ctx, listener)
}

type migrateCommand struct {
	OwnerURL string `help:"PostgreSQL, as the owner of the tables." env:"DATABASE_OWNER_URL" required:""`
}

// Run applies what is missing.
func (c *migrateCommand) Run(ctx context.Context) error {
	err := store.Migrate(ctx, c.OwnerURL)
	if errors.Is(err, migrations.ErrServersTooOld) {
		return refusal.New(codeServersOld, "the schema is not brought up to date: replace the servers of older releases first, then migrate again").Because(err)
	}
	return err
}

type keysCommand struct {
	New     keysNewCommand     `cmd:"" help:"Print a new keyset."`
	Add     keysAddCommand     `cmd:"" help:"Print the keyset with a new key, which opens but does not seal yet. Give it to every server, then promote it."`
	Promote keysPromoteCommand `cmd:"" help:"Print the keyset with its newest key as the one that seals. Give it to every server, then rotate."`
	Rotate  keysRotateCommand  `cmd:"" help:"Seal everything again with the key that seals, while servers serve."`
}

type keysNewCommand struct{}

// Run prints a keyset: it is a secret.
func (keysNewCommand) Run(s streams) error {
	_, err := fmt.Fprintln(s.out, string(store.NewKeyset()))
	return err
}

type keysAddCommand struct {
	KeysetFile string `arg:"" type:"existingfile" help:"The present keyset."`
}

// Run prints the keyset with one more key.
func (c *keysAddCommand) Run(s streams) error { return printKeyset(s, c.KeysetFile, store.AddKey) }

type keysPromoteCommand struct {
	KeysetFile string `arg:"" type:"existingfile" help:"The keyset that every server has."`
}

// Run prints the keyset with another primary key.
func (c *keysPromoteCommand) Run(s streams) error {
	return printKeyset(s, c.KeysetFile, store.Promote)
}

// printKeyset prints what becomes of the keyset in a file; the file stays as it is.
func printKeyset(s streams, file string, change func([]byte) ([]byte, error)) error {
	present, err := readFile(file, maxSmall)
	if err != nil {
		return err
	}
	changed, err := change(present)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, string(changed))
	return err
}

type keysRotateCommand struct {
	DatabaseURL string `help:"PostgreSQL, as the server connects to it." env:"DATABASE_URL" required:""`
	KeysetFile  string `help:"The keyset with the new primary key." env:"SIGNEDAPPROVAL_KEYSET_FILE" type:"existingfile" required:""`
}

// Run seals every secret again.
func (c *keysRotateCommand) Run(ctx context.Context, s streams) error {
	keyset, err := os.ReadFile(c.KeysetFile)
	if err != nil {
		return err
	}
	vault, err := store.OpenVault(keyset)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, c.DatabaseURL, vault)
	if err != nil {
		return err
	}
	defer db.Close()
	count, err := db.Reseal(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%d values were sealed again\n", count)
	return err
}
