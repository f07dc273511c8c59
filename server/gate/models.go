package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// proveModels fills in of which model the authenticator of each decision's key is, where the rule asks. It
// is judged anew each time, by the metadata that the server has now: what a model is accused of later
// takes its keys out of every verdict that is still to come.
func (g *Gate) proveModels(ctx context.Context, tx *store.Tx, rule approval.Rule, decisions []store.Decision) error {
	if !rule.Needs().Models {
		return nil
	}
	return g.proveAll(ctx, tx, decisions)
}

// proveAll does as proveModels for decisions on many pull requests, whose rules ask, with one statement.
func (g *Gate) proveAll(ctx context.Context, tx *store.Tx, lists ...[]store.Decision) error {
	var ids [][]byte
	for _, decisions := range lists {
		for _, d := range decisions {
			ids = append(ids, d.CredentialID)
		}
	}
	if g.Models == nil || len(ids) == 0 {
		return nil
	}
	keys, err := tx.CredentialsByID(ctx, ids)
	if err != nil {
		return err
	}
	models := make(map[string]string, len(keys))
	for _, key := range keys {
		if models[string(key.ID)], err = g.Model(key); err != nil {
			return err
		}
	}
	for _, decisions := range lists {
		for i, d := range decisions {
			decisions[i].Model = models[string(d.CredentialID)]
		}
	}
	return nil
}

// otherModels is how long an evaluation waits for a server with the metadata that is in force.
const otherModels = 10 * time.Second

// judgesModels refuses to judge by a rule that asks for models where other metadata is in force: a server that began
// before it was there, and still runs, would write down again what the newer one found wrong. A server without any proves
// nothing, and needs no leave for that.
func (g *Gate) judgesModels(ctx context.Context, tx *store.Tx, rule approval.Rule) error {
	if !rule.Needs().Models || g.Models == nil {
		return nil
	}
	inForce, err := tx.ModelsInForce(ctx)
	if err != nil || inForce == "" {
		return err
	}
	own, err := g.modelsDigest()
	if err != nil || own == inForce {
		return err
	}
	return jobs.Later(errors.New("other metadata of authenticators is in force than this server has: one that has it judges this"), time.Now().Add(otherModels))
}

// digested is the digest of a snapshot, which is computed once.
type digested struct {
	of     *evidence.Models
	digest string
}

func (g *Gate) modelsDigest() (string, error) {
	if known := g.digested.Load(); known != nil && known.of == g.Models {
		return known.digest, nil
	}
	document, err := json.Marshal(g.Models)
	if err != nil {
		return "", err
	}
	digest := string(approval.DigestOf(document))
	g.digested.Store(&digested{g.Models, digest})
	return digest, nil
}

// FollowModels puts the metadata that the server has into force, and asks for an evaluation of
// every open pull request whose verdict rests on models that it does not prove, or does not know of others that it does. A
// server calls it when it begins, for then its metadata can be newer than that of servers that began before it; those judge
// nothing by models from then on, so that nothing is lost that is asked for here. Metadata of a smaller number than what is in
// force, as after an upgrade was taken back, is followed by nothing.
func (g *Gate) FollowModels(ctx context.Context) error {
	if g.Models != nil {
		digest, err := g.modelsDigest()
		if err != nil {
			return err
		}
		switch inForce, err := g.Store.PutModels(ctx, g.Models.Number, digest); {
		case err != nil:
			return err
		case !inForce:
			g.Log.ErrorContext(ctx, "newer metadata of authenticators is in force: this server judges nothing by rules that ask for models", "number", g.Models.Number)
			return nil
		}
	}
	workspaces, err := g.Store.AllWorkspaces(ctx)
	if err != nil {
		return err
	}
	for _, workspace := range workspaces {
		var asking []store.ApprovalRequest
		err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
			asking, err = tx.RequestsAskingModels(ctx)
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range asking { // in transactions of their own, for proving takes its time
			err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error { return g.followModels(ctx, tx, r) })
			if errors.Is(err, errLost) { // it will not come back, and the others wait
				g.Log.ErrorContext(ctx, "what a verdict rests on cannot be read", "request", r.ID, "error", err)
				continue
			}
			if err != nil {
				return fmt.Errorf("models of request %s: %w", r.ID, err)
			}
		}
	}
	return nil
}

func (g *Gate) followModels(ctx context.Context, tx *store.Tx, r store.ApprovalRequest) error {
	facts, err := factsOf(r)
	if err != nil {
		return err
	}
	decisions, err := tx.DecisionsOn(ctx, r.PullRequestID, r.HeadCommit)
	if err != nil {
		return err
	}
	if err := g.proveAll(ctx, tx, decisions); err != nil {
		return err
	}
	rule, err := ruleOf(r)
	if err != nil {
		return err
	}
	proved := make(map[string]string, len(decisions))
	for _, d := range decisionsOf(rule, r, decisions) {
		proved[d.ID] = d.Model
	}
	// A decision that is not in the facts yet has its evaluation before it.
	if !slices.ContainsFunc(facts.Decisions, func(d approval.Decision) bool { return proved[d.ID] != d.Model }) {
		return nil
	}
	pr, err := tx.PullRequest(ctx, r.PullRequestID)
	if err != nil {
		return err
	}
	return tx.Enqueue(ctx, store.AskEvaluate(tx.Workspace, pr.RepositoryID, pr.Number))
}

// Model is the AAGUID of a key's authenticator where the attestation of its enrolment proves it by the
// metadata that the server has; empty where nothing does, and for a key that waits.
func (g *Gate) Model(key store.Credential) (string, error) {
	if len(key.Enrolment) == 0 || g.Models == nil {
		return "", nil
	}
	var enrolment evidence.Enrolment
	if err := json.Unmarshal(key.Enrolment, &enrolment); err != nil {
		return "", lost("stored enrolment", err)
	}
	model, err := enrolment.Model(key.Key(), g.Models)
	if err != nil { // which says why nothing is proved
		return "", nil
	}
	return model.AAGUID, nil
}
