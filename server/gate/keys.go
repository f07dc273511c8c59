package gate

import (
	"bytes"
	"context"
	"slices"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// CodeKeyWaits says that the person has keys, but none that counts in this workspace yet.
const CodeKeyWaits = "KEY_WAITING"

// credentials are the person's keys that can decide in the workspace; none where they have to make one first.
func (g *Gate) credentials(ctx context.Context, person store.Person, workspace string) ([]store.Credential, error) {
	var keys store.Keys
	err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		keys, err = tx.Keys(ctx, person.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	counting := keys.Counting(workspace)
	awaits := func(c store.Credential) bool { return c.Enrolled() || c.Waiting() && c.Unfinished != nil }
	if len(counting) == 0 && slices.ContainsFunc(keys.Credentials, awaits) {
		return nil, keyWaits()
	}
	return counting, nil
}

func keyWaits() error {
	return refusal.New(CodeKeyWaits, "None of your passkeys counts in this workspace: an administrator of the workspace has to countersign one first.")
}

// counts refuses a key with which the person cannot decide in the workspace. A key of somebody else it lets pass: the
// verifier refuses that in its own words.
func counts(keys store.Keys, key store.Credential, workspace string, person store.Person) error {
	same := func(c store.Credential) bool { return bytes.Equal(c.ID, key.ID) }
	switch {
	case key.RevokedAt != nil:
		return refusal.New(CodeRevokedKey, "This key was revoked; use another one.").At("response")
	case key.PersonID != person.ID:
		return nil
	case keys.Revocation(workspace, key.ID) != nil:
		return refusal.New(CodeRevokedKey, "This key was revoked for this workspace; use another one.").At("response")
	case !slices.ContainsFunc(keys.Counting(workspace), same):
		return refusal.New(CodeKeyWaits, "This key does not count in this workspace yet; it has to be enrolled or countersigned first.").At("response")
	}
	return nil
}
