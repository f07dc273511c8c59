package stage

import (
	"context"
	"errors"
	"time"

	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
)

// spare is a further passkey of a person, with its id of the API once that is known.
type spare struct {
	key *passkeytest.Authenticator
	id  string
	// since is when it was surely enrolled: acts have whole seconds.
	since time.Time
}

// HasSpare tells since when the person has a second passkey; false where they have none.
func (p *Person) HasSpare() (since time.Time, has bool) {
	if p.spare == nil || p.spare.since.IsZero() {
		return time.Time{}, false
	}
	return p.spare.since, true
}

// Renew enrols a second passkey by the signature of the one that the person has. Where an answer was lost it may be called
// again, and takes up what was begun.
func (p *Person) Renew(ctx context.Context, at Place) error {
	if _, has := p.HasSpare(); has {
		return nil
	}
	states, err := p.passkeys(ctx, at)
	if err != nil {
		return err
	}
	if p.spare == nil {
		p.spare = &spare{key: passkeytest.New(p.origin)}
	}
	if p.spare.id == "" || states[p.spare.id] != "ENROLLED" {
		if err := p.enrolSpare(ctx, states); err != nil {
			return err
		}
	}
	p.spare.since = time.Now().Truncate(time.Second).Add(time.Second)
	return nil
}

// passkeys lists the states of the person's passkeys by their ids.
func (p *Person) passkeys(ctx context.Context, at Place) (map[string]string, error) {
	var seen struct {
		Viewer struct {
			Passkeys []struct{ ID, State string }
		}
	}
	err := p.Ask(ctx, "Sign", at.variables(), &seen)
	states := map[string]string{}
	for _, key := range seen.Viewer.Passkeys {
		states[key.ID] = key.State
	}
	return states, err
}

func (p *Person) enrolSpare(ctx context.Context, states map[string]string) error {
	var act keyAct
	begun := ""
	for id, state := range states {
		if state == "UNCONFIRMED" {
			begun = id
		}
	}
	if begun != "" {
		var continued struct{ ContinuePasskey keyAct }
		if err := p.Ask(ctx, "ContinuePasskey", input(map[string]any{"id": begun}), &continued); err != nil {
			return err
		}
		act = continued.ContinuePasskey
	} else {
		var err error
		if act, err = p.makeKey(ctx, p.spare.key, "spare"); err != nil {
			return err
		}
	}
	if err := act.UserErrors.err(); err != nil {
		return err
	}
	p.spare.id = act.Passkey.ID
	for asked := act.Act; asked.Options != ""; {
		signer := p.key
		if asked.Step == "NEW_KEY" {
			signer = p.spare.key
		}
		signed, err := signer.Get([]byte(asked.Options))
		if err != nil {
			return err
		}
		var confirmed struct{ ConfirmPasskey keyAct }
		err = p.Ask(ctx, "ConfirmPasskey", input(map[string]any{"response": string(signed)}), &confirmed)
		if err = errors.Join(err, confirmed.ConfirmPasskey.UserErrors.err()); err != nil {
			return err
		}
		asked = confirmed.ConfirmPasskey.Act
		if state := confirmed.ConfirmPasskey.Passkey.State; asked.Options == "" && state != "ENROLLED" {
			return errors.New("the second passkey is " + state)
		}
	}
	return nil
}

// Replace revokes the passkey that the person signs with, by the signature of the second one, which takes its place. With
// since it says that the first one may have been in other hands from then on. Where the answer was lost it may be called
// again.
func (p *Person) Replace(ctx context.Context, at Place, since *time.Time) error {
	if _, has := p.HasSpare(); !has {
		return errors.New("there is no second passkey")
	}
	states, err := p.passkeys(ctx, at)
	if err != nil {
		return err
	}
	for id, state := range states {
		if id == p.spare.id || state != "ENROLLED" {
			continue
		}
		if err := p.revoke(ctx, id, since); err != nil {
			return err
		}
	}
	p.key, p.spare = p.spare.key, nil
	return nil
}

func (p *Person) revoke(ctx context.Context, id string, since *time.Time) error {
	fields := map[string]any{"key": id, "action": "REVOKE"}
	if since != nil {
		fields["compromisedSince"] = since.UTC().Format(time.RFC3339)
	}
	var prepared struct{ PrepareKeyAct keyAct }
	err := p.Ask(ctx, "PrepareKeyAct", input(fields), &prepared)
	if err = errors.Join(err, prepared.PrepareKeyAct.UserErrors.err()); err != nil {
		return err
	}
	signed, err := p.spare.key.Get([]byte(prepared.PrepareKeyAct.Act.Options))
	if err != nil {
		return err
	}
	var done struct{ SignKeyAct struct{ UserErrors refusals } }
	err = p.Ask(ctx, "SignKeyAct", input(map[string]any{"response": string(signed)}), &done)
	return errors.Join(err, done.SignKeyAct.UserErrors.err())
}
