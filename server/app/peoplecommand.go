package app

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/store"
)

type peopleCommand struct {
	Erase peopleEraseCommand `cmd:"" help:"Forget who a person was. What they signed stays, without their name; their keys are revoked."`
}

type peopleEraseCommand struct {
	AccountID   string `arg:"" help:"The Bitbucket account id, such as 557058:0f1e…; not a name or an address."`
	KeepInRules bool   `help:"Erase although rules in force name the account, and leave it in them."`
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
	gated := &gate.Gate{Store: db, Log: log}
	if naming, err := gated.RulesNaming(ctx, c.AccountID); err != nil {
		return err
	} else if err := c.refuse(naming); err != nil {
		return err
	}
	persons.Redact = gated.Redact
	count, err := persons.Erase(ctx, c.AccountID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "erased, from %d pull requests too\n", count)
	return err
}

// refuse is what is said of rules that name the account: they are signed for by their digest, so that nothing can be
// taken out of them afterwards, and whoever is in them is still asked.
func (c *peopleEraseCommand) refuse(naming []string) error {
	if len(naming) == 0 || c.KeepInRules {
		return nil
	}
	return fmt.Errorf("the rules in force of %s name this account: have an administrator take it out of them first, or erase with --keep-in-rules and leave it there; nothing was erased",
		strings.Join(naming, ", "))
}
