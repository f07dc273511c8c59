package graph

import (
	"context"
	"regexp"
	"strings"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/store"
)

type policyVersion struct {
	batch *policyBatch
	row   store.PolicyVersion

	ID        graphql.ID
	Version   int32
	Digest    string
	Document  string
	CreatedAt Time
}

// policyBatch holds policy versions of one workspace that one list shows, so that people and the names of
// approvers are read for all of them at once, and only if they are asked for.
type policyBatch struct {
	r         *resolver
	workspace string
	rows      []store.PolicyVersion

	authors lazy[map[string]store.Person] // by our id
	names   lazy[map[string]string]       // by account id
}

// policyVersions maps versions that the caller may see.
func (r *resolver) policyVersions(workspace string, rows []store.PolicyVersion) []*policyVersion {
	b := &policyBatch{r: r, workspace: workspace, rows: rows}
	return each(rows, func(v store.PolicyVersion) *policyVersion {
		return &policyVersion{
			batch: b, row: v,
			ID: nodeIDOf(kindPolicyVersion, workspace, v.RepositoryID, v.ID), Version: clamp(v.Version), Digest: v.Digest,
			Document: string(v.Document), CreatedAt: timeOf(v.CreatedAt),
		}
	})
}

func (v *policyVersion) CreatedBy(ctx context.Context) (*person, error) {
	b := v.batch
	authors, err := b.authors.get(func() (map[string]store.Person, error) { return b.readAuthors(ctx) })
	if author, ok := authors[v.row.CreatedBy]; ok {
		return personOf(author), nil
	}
	return nil, err
}

func (b *policyBatch) readAuthors(ctx context.Context) (map[string]store.Person, error) {
	ids := each(b.rows, func(v store.PolicyVersion) string { return v.CreatedBy })
	authors := make(map[string]store.Person)
	err := b.r.gate.Store.Outside(ctx, func(sh *store.Shared) error {
		people, err := sh.People(ctx, ids)
		for _, p := range people {
			authors[p.ID] = p
		}
		return err
	})
	return authors, err
}

func (v *policyVersion) Rules(ctx context.Context) ([]*rule, error) {
	policy, err := approval.ParsePolicy(v.row.Document)
	if err != nil {
		return nil, err // it was parsed when it was saved
	}
	var names map[string]string
	if graphql.HasSelectedField(ctx, "requirements.approvers.name") || graphql.HasSelectedField(ctx, "override.approvers.name") {
		b := v.batch
		if names, err = b.names.get(func() (map[string]string, error) { return b.readNames(ctx) }); err != nil {
			return nil, err
		}
	}
	return each(policy.Rules, func(r approval.Rule) *rule { return v.batch.r.ruleOf(r, names) }), nil
}

func (b *policyBatch) readNames(ctx context.Context) (names map[string]string, err error) {
	var accounts []string
	for _, v := range b.rows {
		policy, err := approval.ParsePolicy(v.Document)
		if err != nil {
			return nil, err
		}
		for _, r := range policy.Rules {
			for _, q := range r.Requirements {
				accounts = append(accounts, q.Approvers.Accounts...)
			}
			if r.Override != nil {
				accounts = append(accounts, r.Override.Approvers.Accounts...)
			}
		}
	}
	err = b.r.gate.Store.InWorkspace(ctx, b.workspace, func(tx *store.Tx) error {
		names, err = tx.AccountNames(ctx, accounts)
		return err
	})
	return names, err
}

// index is how a path into a policy names an element.
var index = regexp.MustCompile(`\[(\d+)\]`)

// problemOf says what is wrong with a policy, in the words of the API: its path leads into RuleInput.
func problemOf(p approval.Problem) userError {
	e := userError{Code: strings.ToUpper(string(p.Code)), Message: p.Message}
	if p.Path != "" {
		e.Path = strings.Split(index.ReplaceAllString(strings.Replace(p.Path, ".approvers.", ".", 1), ".$1"), ".")
		for i, part := range e.Path {
			if part == "accounts" {
				e.Path[i] = "approvers"
			}
		}
	}
	return e
}
