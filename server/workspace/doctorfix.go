package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// fixKinds says which restriction a fix makes.
var fixKinds = map[Fix]bitbucket.RestrictionKind{
	FixRestrictPush: bitbucket.RestrictPush, FixRequireBuild: bitbucket.RequirePassingBuilds, FixEnforceChecks: bitbucket.EnforceMergeChecks,
}

// FixEnforcement makes the branch restrictions that an administrator has chosen, for the branches of
// one pattern of the rules in force, and examines the repository again. Restrictions that exist stay,
// except that one on pushing to just these branches lets nobody in any more. It answers what was found
// afterwards, and what is left to a person, a sentence each: what Bitbucket refused, and what no API
// can do.
func (w *Workspaces) FixEnforcement(ctx context.Context, person store.Person, workspace, repositoryUUID, pattern string, fixes []Fix) (found []store.Enforcement, leftToDo []string, err error) {
	repositoryID, ok := bitbucket.BareUUID(repositoryUUID)
	if !ok || !store.ValidID(workspace) {
		return nil, nil, notFound("repository").At("repositoryId")
	}
	if err := w.mayConfigure(ctx, person, workspace, repositoryID); err != nil {
		return nil, nil, err
	}
	if len(fixes) == 0 || slices.ContainsFunc(fixes, func(f Fix) bool { return fixKinds[f] == "" }) {
		return nil, nil, refusal.New(refusal.BadInput, "Choose at least one thing to mend.").At("fixes")
	}
	if err := w.mustHavePattern(ctx, workspace, repositoryID, pattern); err != nil {
		return nil, nil, err
	}
	client, err := w.Client(ctx, workspace, bitbucket.Foreground)
	if err != nil {
		return nil, nil, err
	}
	var there []bitbucket.BranchRestriction
	for one, err := range client.BranchRestrictions(ctx, workspace, repositoryID) {
		if err != nil {
			return nil, nil, asked(err)
		}
		there = append(there, one)
	}
	for _, fix := range slices.Compact(slices.Sorted(slices.Values(fixes))) {
		for _, g := range alternatives(pattern) {
			if sentence := mend(ctx, client, workspace, repositoryID, fix, g, there); sentence != "" {
				leftToDo = append(leftToDo, sentence)
			}
		}
	}
	w.log.InfoContext(ctx, "branch restrictions made", "workspace", workspace, "repository", repositoryID, "person", person.ID,
		"pattern", pattern, "fixes", fixes, "left", len(leftToDo))
	if found, err = w.Examine(ctx, workspace, repositoryID); err != nil {
		w.log.WarnContext(ctx, "not examined after mending", "workspace", workspace, "repository", repositoryID, "error", err)
		return nil, append(leftToDo, "Bitbucket could not be asked what it enforces now; it is asked again soon."), w.askDoctor(ctx, workspace, repositoryID)
	}
	return found, append(leftToDo, stepsLeft(found, pattern)...), nil
}

// askDoctor has a repository examined.
func (w *Workspaces) askDoctor(ctx context.Context, workspace, repositoryID string) error {
	return w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		return tx.Enqueue(ctx, store.AskDoctor(workspace, repositoryID))
	})
}

// mustHavePattern refuses a pattern that no rule in force has: nothing else is restricted from here.
func (w *Workspaces) mustHavePattern(ctx context.Context, workspace, repositoryID, pattern string) error {
	var policy approval.Policy
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		config, err := tx.RepositoryConfig(ctx, repositoryID)
		if err != nil {
			return err
		}
		version, err := tx.PolicyVersion(ctx, config.PolicyVersionID)
		if err != nil {
			return err
		}
		policy, err = approval.ParsePolicy(version.Document)
		return err
	})
	switch {
	case err != nil:
		return found(err, "repository")
	case !slices.Contains(patternsOf(policy), pattern):
		return refusal.New(refusal.BadInput, "No rule in force has this pattern.").At("pattern")
	}
	return nil
}

// mend makes one restriction for one glob, unless there is one that does. It answers what is left to
// do; "" for nothing.
func mend(ctx context.Context, client *bitbucket.Client, workspace, repositoryID string, fix Fix, g glob, there []bitbucket.BranchRestriction) string {
	kind, pattern := fixKinds[fix], g.bitbucket()
	if strings.ContainsAny(strings.ReplaceAll(pattern, "*", ""), unclear) {
		return fmt.Sprintf("Bitbucket may read the pattern %q in another way: make the restriction %q by hand.", pattern, kind)
	}
	wanted := bitbucket.BranchRestriction{Kind: kind, MatchKind: bitbucket.MatchGlob, Pattern: pattern}
	if fix == FixRequireBuild {
		wanted.Value = new(1)
	}
	var err error
	same := slices.IndexFunc(there, func(r bitbucket.BranchRestriction) bool {
		return r.Kind == kind && r.MatchKind == bitbucket.MatchGlob && r.Pattern == pattern
	})
	switch {
	case same >= 0 && (len(there[same].Users)+len(there[same].Groups) > 0 || there[same].Value != nil && *there[same].Value < 1):
		wanted.ID = there[same].ID
		_, err = client.UpdateBranchRestriction(ctx, workspace, repositoryID, wanted)
	case same >= 0 || coversAll(kind, there, []glob{g}) == coversSurely:
		return ""
	default:
		_, err = client.CreateBranchRestriction(ctx, workspace, repositoryID, wanted)
	}
	if err == nil {
		return ""
	}
	said := "Bitbucket could not be asked"
	if remote, ok := errors.AsType[*bitbucket.Error](err); ok && remote.Status != 0 {
		said = fmt.Sprintf("Bitbucket answered %d", remote.Status)
		if remote.Message != "" {
			said += ": " + remote.Message
		}
	}
	sentence := fmt.Sprintf("The restriction %q on %s could not be made (%s).", kind, pattern, said)
	if fix == FixEnforceChecks {
		sentence += " It needs Bitbucket Premium; without it Bitbucket only warns before a merge."
	}
	return sentence
}

// stepsLeft are the steps that only a person can do about a pattern.
func stepsLeft(found []store.Enforcement, pattern string) (steps []string) {
	for _, e := range found {
		if e.Pattern != pattern {
			continue
		}
		reasons, err := ReasonsOf(e)
		if err != nil {
			return nil // written a moment ago
		}
		for _, r := range reasons {
			for _, step := range r.Steps {
				if !slices.Contains(steps, step) {
					steps = append(steps, step)
				}
			}
		}
	}
	return steps
}

// Violations lists the merges of a repository that its rules had not approved, newest first, for who
// may read it.
func (w *Workspaces) Violations(ctx context.Context, person store.Person, workspace, repositoryID string, page store.Page) (rows []store.MergeSeen, more bool, err error) {
	if err := w.mustSee(ctx, person, workspace, repositoryID); err != nil {
		return nil, false, err
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		rows, more, err = tx.Violations(ctx, repositoryID, page)
		return err
	})
	return rows, more, err
}
