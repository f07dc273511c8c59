package stage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
)

// Place is where a pull request is: Bitbucket's UUIDs and its number.
type Place struct {
	Workspace, Repository string
	Number                int64
}

func (p Place) variables() map[string]any {
	return map[string]any{"workspace": p.Workspace, "repository": p.Repository, "number": p.Number}
}

// Request is an open request as the sign page shows it.
type Request struct{ ID, HeadCommit, State, Sentence, EvidencePath string }

// ErrNoRequest says that nothing is asked for.
var ErrNoRequest = errors.New("there is no request")

// Request reads what is asked for.
func (p *Person) Request(ctx context.Context, at Place) (Request, error) {
	var found struct {
		PullRequest *struct{ Request *Request }
	}
	if err := p.Ask(ctx, "Sign", at.variables(), &found); err != nil {
		return Request{}, err
	}
	if found.PullRequest == nil || found.PullRequest.Request == nil {
		return Request{}, ErrNoRequest
	}
	return *found.PullRequest.Request, nil
}

// Panel is a pull request as its panel shows it.
type Panel struct {
	State, Sentence string
	Merge           *struct{ State, Sentence string }
}

// Panel reads the panel; nil where there is none.
func (p *Person) Panel(ctx context.Context, at Place) (*Panel, error) {
	var found struct{ PullRequest *Panel }
	err := p.Ask(ctx, "Panel", at.variables(), &found)
	return found.PullRequest, err
}

// Decide does what the sign page does: show, check, enrol where needed, sign, submit. action is
// APPROVE, REJECT or WITHDRAW. It answers the SHA-256 of what was signed.
func (p *Person) Decide(ctx context.Context, at Place, action string) (string, error) {
	signed, err := p.Sign(ctx, at, action)
	if err != nil {
		return "", err
	}
	return p.Submit(ctx, signed)
}

// Signed is a decision that nobody knows of yet.
type Signed struct{ requestID, answer string }

// Sign is Decide short of the submission.
func (p *Person) Sign(ctx context.Context, at Place, action string) (Signed, error) {
	return p.SignInstead(ctx, at, action, func(statement []byte) ([]byte, error) { return statement, nil })
}

// SignInstead is Sign of what instead makes of the statement that the server gave: what another page, or another server,
// showed the person.
func (p *Person) SignInstead(ctx context.Context, at Place, action string, instead func(statement []byte) ([]byte, error)) (Signed, error) {
	r, err := p.Request(ctx, at)
	if err != nil {
		return Signed{}, err
	}
	digest, err := p.read(ctx, r.ID)
	if err != nil {
		return Signed{}, err
	}
	draft := input(map[string]any{"requestId": r.ID, "action": action, "headCommit": r.HeadCommit, "diffSha256": digest})
	statement, options, err := p.prepare(ctx, draft)
	if err == nil && options == "" {
		if err = p.enrol(ctx, at); err == nil {
			statement, options, err = p.prepare(ctx, draft)
		}
	}
	if err != nil {
		return Signed{}, err
	}
	if !bytes.Contains(statement, []byte(r.HeadCommit)) {
		return Signed{}, errors.New("the statement names another commit than the one shown")
	}
	given := base64.RawURLEncoding.EncodeToString(digestOf(statement))
	if statement, err = instead(statement); err != nil {
		return Signed{}, err
	}
	options = strings.ReplaceAll(options, given, base64.RawURLEncoding.EncodeToString(digestOf(statement)))
	answer, err := p.key.Get([]byte(options))
	return Signed{requestID: r.ID, answer: string(answer)}, err
}

func digestOf(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}

// read reads the diff of a request and answers its digest, as the page that renders it would.
func (p *Person) read(ctx context.Context, requestID string) (string, error) {
	var change struct {
		Node struct {
			Diff struct{ Content, Sha256 string }
		}
	}
	if err := p.Ask(ctx, "Change", map[string]any{"id": requestID}, &change); err != nil {
		return "", err
	}
	rendered, err := base64.StdEncoding.DecodeString(change.Node.Diff.Content)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(rendered)
	if hex.EncodeToString(digest[:]) != change.Node.Diff.Sha256 {
		return "", errors.New("the diff is not what its digest says")
	}
	return change.Node.Diff.Sha256, nil
}

// Submit submits a decision, and answers the SHA-256 of what was signed.
func (p *Person) Submit(ctx context.Context, signed Signed) (string, error) {
	var submitted struct {
		SubmitDecision struct {
			Decision   struct{ StatementSha256 string }
			UserErrors refusals
		}
	}
	err := p.Ask(ctx, "SubmitDecision", input(map[string]any{"requestId": signed.requestID, "response": signed.answer}), &submitted)
	return submitted.SubmitDecision.Decision.StatementSha256, errors.Join(err, submitted.SubmitDecision.UserErrors.err())
}

// prepare asks for the statement. No options say that the person has no passkey yet.
func (p *Person) prepare(ctx context.Context, draft any) (statement []byte, options string, err error) {
	var prepared struct {
		PrepareDecision struct {
			Statement, Options string
			UserErrors         refusals
		}
	}
	err = p.Ask(ctx, "PrepareDecision", draft, &prepared)
	if err = errors.Join(err, prepared.PrepareDecision.UserErrors.err()); err != nil {
		return nil, "", err
	}
	statement, err = base64.RawURLEncoding.DecodeString(prepared.PrepareDecision.Statement)
	return statement, prepared.PrepareDecision.Options, err
}

// keyAct is what a new passkey is to sign, as the page is told.
type keyAct struct {
	Passkey    struct{ ID, State string }
	Act        struct{ Step, Options string }
	UserErrors refusals
}

// enrol enrols the person's passkey. One that was made before, of which the answer was lost, is taken up.
func (p *Person) enrol(ctx context.Context, at Place) error {
	act, err := p.newKey(ctx, at)
	if err = errors.Join(err, act.UserErrors.err()); err != nil {
		return err
	}
	signed, err := p.key.Get([]byte(act.Act.Options))
	if err != nil {
		return err
	}
	var confirmed struct {
		ConfirmPasskey struct {
			Passkey    struct{ State string }
			UserErrors refusals
		}
	}
	err = p.Ask(ctx, "ConfirmPasskey", input(map[string]any{"response": string(signed)}), &confirmed)
	if err = errors.Join(err, confirmed.ConfirmPasskey.UserErrors.err()); err != nil {
		return err
	}
	if state := confirmed.ConfirmPasskey.Passkey.State; state != "ENROLLED" {
		return errors.New("the passkey is " + state)
	}
	return nil
}

// newKey takes up the passkey that is still to be confirmed, or makes one.
func (p *Person) newKey(ctx context.Context, at Place) (keyAct, error) {
	var seen struct {
		Viewer struct {
			Passkeys []struct{ ID, State string }
		}
	}
	if err := p.Ask(ctx, "Sign", at.variables(), &seen); err != nil {
		return keyAct{}, err
	}
	for _, key := range seen.Viewer.Passkeys {
		if key.State == "UNCONFIRMED" {
			var continued struct{ ContinuePasskey keyAct }
			err := p.Ask(ctx, "ContinuePasskey", input(map[string]any{"id": key.ID}), &continued)
			return continued.ContinuePasskey, err
		}
	}
	return p.makeKey(ctx, p.key, p.Name+"'s key")
}

// makeKey makes a passkey, which is still to be confirmed.
func (p *Person) makeKey(ctx context.Context, on *passkeytest.Authenticator, name string) (keyAct, error) {
	var begun struct {
		BeginPasskey struct {
			Options    string
			UserErrors refusals
		}
	}
	err := p.Ask(ctx, "BeginPasskey", input(map[string]any{"name": name}), &begun)
	if err = errors.Join(err, begun.BeginPasskey.UserErrors.err()); err != nil {
		return keyAct{}, err
	}
	made, err := on.Create([]byte(begun.BeginPasskey.Options))
	if err != nil {
		return keyAct{}, err
	}
	var finished struct{ FinishPasskey keyAct }
	err = p.Ask(ctx, "FinishPasskey", input(map[string]any{"name": name, "response": string(made)}), &finished)
	return finished.FinishPasskey, err
}
