package app

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/signedapproval/bitbucket/server/store"
)

type jobsCommand struct {
	Dead    deadCommand    `cmd:"" help:"List the jobs that gave up, oldest first."`
	Requeue requeueCommand `cmd:"" help:"Give a dead job a new life."`
}

type deadCommand struct {
	DatabaseURL string `help:"PostgreSQL, as the server connects to it." env:"DATABASE_URL" required:""`
}

// deadPage is how many dead jobs are read at a time.
const deadPage = 200

// Run lists all dead jobs.
func (c *deadCommand) Run(ctx context.Context, s streams) error {
	db, err := store.Open(ctx, c.DatabaseURL, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tKIND\tKEY\tDIED\tATTEMPTS\tLAST ERROR")
	var cursor store.DeadCursor
	for {
		dead, err := db.DeadJobs(ctx, cursor, deadPage)
		if err != nil {
			return err
		}
		for _, job := range dead {
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%d\t%s\n", job.ID, job.Kind, job.Key, job.DiedAt.UTC().Format(time.RFC3339), job.Attempt, job.LastError)
			cursor = job.Cursor()
		}
		if len(dead) < deadPage {
			return table.Flush()
		}
	}
}

type requeueCommand struct {
	DatabaseURL string `help:"PostgreSQL, as the server connects to it." env:"DATABASE_URL" required:""`
	ID          int64  `arg:"" help:"The job's id."`
}

// Run gives the job a new life; a server finds it within a second.
func (c *requeueCommand) Run(ctx context.Context) error {
	db, err := store.Open(ctx, c.DatabaseURL, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.RequeueJob(ctx, c.ID)
}
