package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// Erasing a person takes away what opens the commitments to them and every place that names them. What
// was signed and what the log has hold commitments only, and stay: so a bundle that was exported
// before still opens, and a later one still verifies, and says whom it cannot name any more.

// erasedName stands where somebody was named.
const erasedName = "Erased person"

// CodeConnected says that a workspace is connected in the name of the account that is to be erased.
const CodeConnected = "CONNECTED_BY_ACCOUNT"

// Redact erases an account from everything that is about pull requests, in all workspaces, and tells
// in how many pull requests it was named. It can be asked for again at any time, and goes on where it
// was broken off. A workspace that is connected in the account's name refuses all of it.
func (g *Gate) Redact(ctx context.Context, accountID string) (pullRequests int, err error) {
	workspaces, err := g.Store.AllWorkspaces(ctx)
	if err != nil {
		return 0, err
	}
	for _, workspace := range workspaces {
		err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
			connected, err := tx.ConnectedAs(ctx, accountID)
			if err != nil || !connected {
				return err
			}
			w, err := tx.ReadWorkspace(ctx)
			if err != nil {
				return err
			}
			return refusal.New(CodeConnected, "The workspace %s is connected in the name of this account: connect it with another one first.", w.Slug)
		})
		if err != nil {
			return 0, err
		}
	}
	for _, workspace := range workspaces {
		n, err := g.redactIn(ctx, workspace, accountID)
		if pullRequests += n; err != nil {
			return pullRequests, err
		}
	}
	return pullRequests, g.Store.EraseDeliveries(ctx, accountID)
}

// RulesNaming lists the repositories, as workspace/name, whose rules in force name an account. A policy is signed for by
// its digest and never changes: only another version, which an administrator sets, names somebody no more. The versions
// before it keep the account.
func (g *Gate) RulesNaming(ctx context.Context, accountID string) (repositories []string, err error) {
	workspaces, err := g.Store.AllWorkspaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, workspace := range workspaces {
		err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
			configs, err := tx.AllRepositoryConfigs(ctx)
			if err != nil {
				return err
			}
			for _, config := range configs {
				policy, err := policyOf(ctx, tx, config)
				if err != nil {
					return err
				}
				if slices.ContainsFunc(policy.Rules, func(r approval.Rule) bool {
					return slices.ContainsFunc(approversOf(r), func(a approval.Approvers) bool { return slices.Contains(a.Accounts, accountID) })
				}) {
					repositories = append(repositories, config.FullName)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return repositories, nil
}

func (g *Gate) redactIn(ctx context.Context, workspace, accountID string) (pullRequests int, err error) {
	// One pseudonym for each workspace, so that nothing leads from one to the other.
	r := redaction{account: accountID, pseudonym: evidence.ErasedPrefix + uuid.NewString()}
	after := uuid.Nil.String()
	for {
		var ids []string
		err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
			ids, err = tx.PullRequestsNaming(ctx, accountID, after)
			return err
		})
		if err != nil {
			return pullRequests, err
		}
		for _, id := range ids {
			// One at a time: an evaluation waits for no more than one.
			if err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error { return r.pullRequest(ctx, tx, id) }); err != nil {
				return pullRequests, err
			}
			pullRequests++
			after = id
		}
		if len(ids) < store.ErasePage {
			break
		}
	}
	return pullRequests, g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error { return tx.EraseAccount(ctx, accountID) })
}

// redaction erases one account from one workspace.
type redaction struct {
	account, pseudonym string
}

// pullRequest erases the account from a pull request.
func (r redaction) pullRequest(ctx context.Context, tx *store.Tx, id string) error {
	pr, err := tx.LockPullRequestByID(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	names := map[string]bool{}
	authored := pr.AuthorAccountID == r.account
	if authored {
		names[pr.AuthorName] = true
		if err := tx.EraseAuthor(ctx, id, r.pseudonym, erasedName); err != nil {
			return err
		}
	}
	decisions, err := tx.Decisions(ctx, id)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		if err := r.decision(ctx, tx, d, authored, names); err != nil {
			return err
		}
	}
	requests, err := tx.AllRequestsOf(ctx, id)
	if err != nil {
		return err
	}
	for _, q := range requests {
		if err := r.request(ctx, tx, q, names); err != nil {
			return err
		}
	}
	for name := range names {
		if name == "" || name == erasedName {
			continue
		}
		if err := tx.EraseName(ctx, id, name, erasedName); err != nil {
			return err
		}
	}
	tx.Touch("pr:" + id)
	return nil
}

// decision forgets the openings of a decision by the account, or about a pull request of the account.
func (r redaction) decision(ctx context.Context, tx *store.Tx, d store.Decision, authored bool, names map[string]bool) error {
	mine := d.AccountID == r.account
	if !mine && !authored {
		return nil
	}
	var open openings
	if err := json.Unmarshal(d.Openings, &open); err != nil {
		return fmt.Errorf("stored openings: %w", err)
	}
	if authored {
		open.Author = nil
	}
	if mine {
		names[d.Name] = true
		open.Approver, open.Comment = nil, nil
		d.AccountID, d.Name, d.Comment = r.pseudonym, erasedName, ""
	}
	var err error
	if d.Openings, err = json.Marshal(open); err != nil {
		return err
	}
	return tx.EraseDecision(ctx, d)
}

// request puts the pseudonym into what a request was tallied from and what came of it.
func (r redaction) request(ctx context.Context, tx *store.Tx, q store.ApprovalRequest, names map[string]bool) error {
	found := false
	documents := []*json.RawMessage{&q.Facts, &q.Verdict}
	trees := make([]any, len(documents))
	for i, document := range documents {
		decoder := json.NewDecoder(bytes.NewReader(*document))
		decoder.UseNumber()
		if err := decoder.Decode(&trees[i]); err != nil {
			return fmt.Errorf("stored verdict of request %s: %w", q.ID, err)
		}
		found = r.replace(trees[i], names) || found
	}
	if !found {
		return nil
	}
	for i, document := range documents {
		rename(trees[i], names)
		data, err := json.Marshal(trees[i])
		if err != nil {
			return err
		}
		*document = data
	}
	q.Sentence = withoutNames(q.Sentence, names)
	return tx.EraseRequest(ctx, q)
}

// replace puts the pseudonym in the place of the account everywhere in a document, and collects the
// names that stood beside it. It tells whether there was anything.
func (r redaction) replace(tree any, names map[string]bool) (found bool) {
	switch node := tree.(type) {
	case map[string]any:
		if node["author"] == r.account {
			node["author"], found = r.pseudonym, true
		}
		if node["accountId"] == r.account {
			node["accountId"], found = r.pseudonym, true
			if name, named := node["name"].(string); named && name != "" {
				names[name], node["name"] = true, erasedName
			}
		}
		for _, child := range node {
			found = r.replace(child, names) || found
		}
	case []any:
		for _, child := range node {
			found = r.replace(child, names) || found
		}
	}
	return found
}

// rename puts other words in the place of the names in the sentences of a document.
func rename(tree any, names map[string]bool) {
	switch node := tree.(type) {
	case map[string]any:
		if sentence, ok := node["sentence"].(string); ok {
			node["sentence"] = withoutNames(sentence, names)
		}
		for _, child := range node {
			rename(child, names)
		}
	case []any:
		for _, child := range node {
			rename(child, names)
		}
	}
}

// withoutNames puts other words in the place of names that stand by themselves.
func withoutNames(sentence string, names map[string]bool) string {
	for name := range names {
		if name != "" && name != erasedName {
			sentence = withoutName(sentence, name)
		}
	}
	return sentence
}

func withoutName(sentence, name string) string {
	letter := func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }
	var out strings.Builder
	for rest := sentence; ; {
		at := strings.Index(rest, name)
		if at < 0 {
			out.WriteString(rest)
			return out.String()
		}
		before, _ := utf8.DecodeLastRuneInString(out.String() + rest[:at])
		after, _ := utf8.DecodeRuneInString(rest[at+len(name):])
		out.WriteString(rest[:at])
		if letter(before) || letter(after) {
			out.WriteString(name)
		} else {
			out.WriteString(erasedName)
		}
		rest = rest[at+len(name):]
	}
}
