package invariant

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// homes are the columns that name a row of a workspace, and the table where that row is at home.
var homes = map[string]string{
	"pull_request_id":   "signedapproval_pull_requests",
	"request_id":        "signedapproval_approval_requests",
	"policy_version_id": "signedapproval_policy_versions",
	"proposal_id":       "signedapproval_proposals",
}

// readStrangers finds the rows of a workspace that name a row of another one: in every table that has
// such columns, also in one that nobody has thought of here.
func readStrangers(ctx context.Context, tx pgx.Tx) ([]string, error) {
	type column struct{ Table, Name string }
	columns, err := collect[column](ctx, tx, `select c.table_name::text, c.column_name::text from information_schema.columns c
		where c.table_schema = 'public' and c.table_name like 'signedapproval\_%' and c.data_type = 'uuid'
			and c.column_name in ('pull_request_id', 'request_id', 'policy_version_id', 'proposal_id', 'repository_id')
			and exists (select from information_schema.columns w where w.table_schema = 'public' and w.table_name = c.table_name and w.column_name = 'workspace_id')
		order by 1, 2`)
	if err != nil {
		return nil, err
	}
	var parts, places []string
	for _, c := range columns {
		table := pgx.Identifier{c.Table}.Sanitize()
		if c.Name == "repository_id" {
			places = append(places, fmt.Sprintf(`select distinct workspace_id, repository_id from %s where repository_id is not null`, table))
			continue
		}
		parts = append(parts, fmt.Sprintf(`select distinct %s from %s t join %s h on h.id = t.%s where h.workspace_id <> t.workspace_id`,
			literal(c.Table+" names with "+c.Name), table, homes[c.Name], c.Name))
	}
	parts = append(parts, `select 'repository ' || repository_id || ' is in several' from (`+strings.Join(places, " union ")+`) places group by repository_id having count(*) > 1`)
	rows, err := tx.Query(ctx, strings.Join(parts, " union all "))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// literal is a text of ours in SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// tenants: no row of one workspace names another's.
func (c *check) tenants() {
	for _, s := range c.strangers {
		c.breaks("a row of one workspace names another's: %s", s)
	}
	chains := map[string]string{}
	for _, p := range c.snapshot.pullRequests {
		chains[p.Chain] = p.Workspace
	}
	for _, l := range c.leaves {
		if home, known := chains[l.Chain]; known && home != l.Workspace {
			c.breaks("a row of one workspace names another's: leaf %d", l.Index)
		}
	}
	for _, j := range c.jobRows {
		var at struct {
			Workspace   string `json:"workspace"`
			PullRequest string `json:"pull_request"`
		}
		if json.Unmarshal(j.Payload, &at) != nil {
			continue
		}
		pr := c.snapshot.pullRequests[at.PullRequest]
		if at.Workspace != "" && at.Workspace != j.Workspace || pr != nil && pr.Workspace != j.Workspace {
			c.breaks("a row of one workspace names another's: job %s %s", j.Kind, j.Key)
		}
	}
	for _, d := range c.decisions {
		s, err := parseStatement(d.Statement)
		if err == nil && s.Workspace != bitbucket.BracedUUID(d.Workspace) {
			c.breaks("a row of one workspace names another's: a decision on %s", c.nameOf(d.PullRequest))
		}
	}
}

// nameOf names a pull request by its id.
func (c *check) nameOf(id string) string {
	if p := c.snapshot.pullRequests[id]; p != nil {
		return p.String()
	}
	return "a pull request that is not there"
}
