package people

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"time"

	"github.com/signedapproval/bitbucket/server/store"
)

// A person is told of everything that happens to a key under their name, also of what they did themselves: whoever acts
// in their name cannot keep them from seeing it.

const keysPath = "/settings/passkeys"

func tell(ctx context.Context, sh *store.Shared, key store.Credential, workspace, kind, title, sentence string) error {
	return tellOnce(ctx, sh, key, workspace, kind, "", title, sentence)
}

// tellOnce tells what can happen to a key more than once; cause is what differs.
func tellOnce(ctx context.Context, sh *store.Shared, key store.Credential, workspace, kind, cause, title, sentence string) error {
	return sh.AddNotice(ctx, store.Notice{
		PersonID: key.PersonID, WorkspaceID: workspace, Kind: kind, DedupeKey: kind + ":" + workspace + ":" + base64.RawURLEncoding.EncodeToString(key.ID) + cause,
		Title: title, Sentence: sentence, Path: keysPath,
	})
}

func tellEnrolled(ctx context.Context, sh *store.Shared, key store.Credential) error {
	by := map[string]string{
		store.ByLogIn: "Bitbucket log-in", store.ByOwnKey: "another passkey of yours", store.ByCountersigner: "an administrator who countersigned it",
	}[*key.IdentifiedBy]
	return tell(ctx, sh, key, NoWorkspace, "KEY_ENROLLED", "A passkey was enrolled under your name",
		fmt.Sprintf("“%s” can sign decisions for you now; you were identified by %s. If it is not yours, revoke it and tell an administrator of your workspace.", key.Name, by))
}

func tellRevoked(ctx context.Context, sh *store.Shared, key store.Credential) error {
	sentence := fmt.Sprintf("“%s” makes no further decision. ", key.Name)
	switch {
	case key.CompromisedSince != nil:
		sentence += "What it signed since the time that you named does not count."
	case key.Revocation != nil:
		sentence += "One of your passkeys signed that. What it signed before stands."
	default:
		sentence += "No passkey signed that: it was done by who is signed in as you. What it signed before stands."
	}
	return tell(ctx, sh, key, NoWorkspace, "KEY_REVOKED", "A passkey of yours was revoked", sentence)
}

func tellReported(ctx context.Context, sh *store.Shared, key store.Credential, since time.Time) error {
	return tellOnce(ctx, sh, key, NoWorkspace, "KEY_REPORTED", ":"+stamp(since), "A revoked passkey of yours was reported as stolen",
		fmt.Sprintf("One of your passkeys signed that somebody else may have had “%s” since %s: what it signed from then on does not count.", key.Name, stamp(since)))
}

// stamp is a time for a sentence.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func tellCountersigned(ctx context.Context, tx *store.Tx, key store.Credential, by []store.Person) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	return tell(ctx, tx.Shared, key, workspace.ID, "KEY_COUNTERSIGNED", "A passkey of yours was countersigned",
		fmt.Sprintf("%s countersigned for %s that “%s” is yours. If it is not, revoke it.", names(by), workspace.Name, key.Name))
}

func tellRevokedIn(ctx context.Context, tx *store.Tx, key store.Credential, by []store.Person) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	return tell(ctx, tx.Shared, key, workspace.ID, "KEY_REVOKED", "A passkey of yours was revoked for a workspace",
		fmt.Sprintf("%s revoked “%s” for %s: it makes no further decision there.", names(by), key.Name, workspace.Name))
}

func tellReportedIn(ctx context.Context, tx *store.Tx, key store.Credential, by []store.Person, since time.Time) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	return tellOnce(ctx, tx.Shared, key, workspace.ID, "KEY_REPORTED", ":"+stamp(since), "A revoked passkey of yours was reported as stolen in a workspace",
		fmt.Sprintf("%s signed for %s that somebody else may have had “%s” since %s: what it signed there from then on does not count.", names(by), workspace.Name, key.Name, stamp(since)))
}

// names lists people by name: “Alice”, “Alice and Bob”, “Alice, Bob and Carol”.
func names(people []store.Person) string {
	list := people[0].Name
	for i, p := range people[1:] {
		if i == len(people)-2 {
			list += " and " + p.Name
		} else {
			list += ", " + p.Name
		}
	}
	return list
}

// tellAdministrators asks the administrators of the person's workspaces to countersign a key. It is done after the key
// was stored, workspace by workspace: what fails is in the log, and their list shows the key all the same.
func (p *People) tellAdministrators(ctx context.Context, person store.Person, key store.Credential) {
	var memberships []store.Membership
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		memberships, err = sh.Memberships(ctx, person.ID)
		return err
	})
	for _, m := range memberships {
		if err != nil {
			break
		}
		err = p.store.InWorkspace(ctx, m.WorkspaceID, func(tx *store.Tx) error {
			workspace, err := tx.ReadWorkspace(ctx)
			if err != nil {
				return err
			}
			return tx.NotifyAdministrators(ctx, store.Notice{
				Kind: "KEY_WAITING", DedupeKey: "key-waiting:" + workspace.ID + ":" + base64.RawURLEncoding.EncodeToString(key.ID),
				Title:    person.Name + " asks for a countersignature",
				Sentence: fmt.Sprintf("%s has no passkey any more that could vouch for another, and made a new one. Make sure that you speak with %s, then countersign it, or leave it.", person.Name, person.Name),
				Path:     "/settings/keys?workspace=" + url.QueryEscape(workspace.Slug),
			})
		})
	}
	if err != nil {
		p.log.WarnContext(ctx, "administrators could not be told of a key that waits", "person", person.ID, "error", err)
	}
}
