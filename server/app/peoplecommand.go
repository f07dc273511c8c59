package app

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/store"
)

type peopleCommand struct {
	Erase peopleEraseCommand `cmd:"" help:"Forget who a person was. What they signed stays, without their name; their keys are revoked."`
}

type peopleEraseCommand struct {
	AccountID   string `arg:"" help:"The Bitbucket account id, such as 557058:0f1e…; not a name or an address."`
	DatabaseURL string `help:"PostgreSQL, as the server connects to it." env:"DATABASE_URL" required:""`
}

// Run erases the person, while servers serve.
func (c *peopleEraseCommand) Run(ctx context.Context, s streams) error {
	vault, err := store.OpenVault(store.NewKeyset()) // nothing that is sealed is opened
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, c.DatabaseURL, vault)
	if err != nil {
		return err
	}
	defer db.Close()
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	persons := people.New(people.Options{Store: db, Log: log})
	persons.Redact = (&gate.Gate{Store: db, Log: log}).Redact
	count, err := persons.Erase(ctx, c.AccountID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "erased, from %d pull requests too\n", count)
	return err
}
