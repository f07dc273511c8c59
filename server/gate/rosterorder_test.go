package gate_test

import (
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestWhatIsSaidFirstIsWrittenFirst has somebody begin to revoke the key with which bob then reports another one, and wait for bob's
// keys until that is done: the report came first, by a key that counted, and the roster has it first, whenever the
// two began. The same of a key that bob enrols with the one that is revoked.
func TestWhatIsSaidFirstIsWrittenFirst(t *testing.T) {
	for name, c := range map[string]struct {
		first func(w *world, bob *person, stolen []byte, since time.Time)
		holds func(w *world, stolen, further []byte, since time.Time) bool
	}{
		"a report": {
			func(w *world, bob *person, stolen []byte, since time.Time) { w.revokes(bob, stolen, bob.key, since) },
			func(w *world, stolen, _ []byte, since time.Time) bool {
				key, _ := w.roster().Key(stolen)
				return key.CompromisedSince != nil && key.CompromisedSince.Equal(since)
			},
		},
		"an enrolment": {
			func(w *world, bob *person, _ []byte, _ time.Time) {
				w.enrolled[bob.ID] = bob.key
				bob.key = passkeytest.New(origin)
				w.enrol(bob)
			},
			func(w *world, _, further []byte, _ time.Time) bool {
				key, found := w.roster().Key(further)
				return found && key.Removed == 0
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, bob := t.Context(), w.people["bob"]
			w.save(w.rule(1, "bob", "carol"))
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Reject)
			signer, signerID := bob.key, w.keyID(bob)
			bob.key = passkeytest.New(origin)
			w.enrol(bob)
			stolen := w.keyID(bob)
			w.revokesUndated(bob, stolen, bob.key)
			w.settle()
			bob.key = signer
			begun, said, revoked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				revoked <- w.store.Outside(ctx, func(sh *store.Shared) error {
					if _, err := sh.Now(ctx); err != nil { // it has begun
						return err
					}
					close(begun)
					<-said
					if _, err := sh.LockCredentials(ctx, bob.ID); err != nil {
						return err
					}
					_, err := sh.RevokeCredential(ctx, bob.ID, signerID, store.Revocation{})
					return err
				})
			}()
			<-begun
			since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
			c.first(w, bob, stolen, since)
			close(said)
			w.must(<-revoked)
			w.settle()
			if key, _ := w.roster().Key(signerID); key.Removed == 0 {
				t.Error("the key that was revoked last is in the roster")
			}
			if !c.holds(w, stolen, w.keyID(bob), since) {
				t.Errorf("what was said first is not in the roster: %+v", w.roster().Keys())
			}
		})
	}
}
