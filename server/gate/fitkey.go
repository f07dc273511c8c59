package gate

import (
	"context"
	"slices"
	"strings"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/store"
)

// KeyProblem says why no passkey of a person would count for an approval or an override under a rule.
type KeyProblem struct {
	Code     string // one of the codes below
	Sentence string // what the rule asks, and what can be done
}

// Codes of why no passkey of a person fits what a rule asks. The latter two are also those of decisions that do not count.
const (
	CodeNoPasskey     = "NO_PASSKEY"     // none decides in the workspace, and one that is made now would not fit by itself
	CodeLoginOnlyKey  = "LOGIN_ONLY_KEY" // nobody else vouched for any that would fit otherwise
	CodeUnprovedModel = "UNPROVED_MODEL" // none is proved to be of a model that the rule names
)

// Keys are all keys of a person, as the workspace judges them.
func (g *Gate) Keys(ctx context.Context, person store.Person, workspace string) (keys store.Keys, err error) {
	err = g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		keys, err = tx.Keys(ctx, person.ID)
		return err
	})
	return keys, err
}

// KeyProblem judges before anybody signs what the tally would say of the keys with which a person can decide in a workspace
// now. It is nil where one of them counts, and where the rule asks nothing of keys.
func (g *Gate) KeyProblem(rule approval.Rule, keys store.Keys, workspace string) (*KeyProblem, error) {
	asks := rule.Keys
	if asks == nil {
		return nil, nil
	}
	counting, proved := keys.Counting(workspace), false
	for _, key := range counting {
		model, err := g.Model(key)
		if err != nil {
			return nil, err
		}
		fits := len(asks.Models) == 0 || slices.Contains(asks.Models, model)
		if fits && (!asks.Countersigned || keys.VouchedFor(workspace, key.ID)) {
			return nil, nil
		}
		proved = proved || fits
	}
	var asked, advice []string
	if asks.Countersigned {
		asked, advice = append(asked, "for which somebody else vouched"), append(advice, "an administrator of the workspace can countersign yours")
	}
	if len(asks.Models) > 0 {
		names := make([]string, len(asks.Models))
		for i, aaguid := range asks.Models {
			names[i] = aaguid
			if known, ok := g.Models.Model(aaguid); ok {
				names[i] = known.Description
			}
		}
		asked = append(asked, "that are proved to be of the model "+strings.Join(names, " or "))
		advice = append([]string{"add one with such an authenticator"}, advice...)
	}
	problem := KeyProblem{Code: CodeUnprovedModel, Sentence: "This rule counts only passkeys " + strings.Join(asked, " and ")}
	switch {
	case len(counting) == 0:
		problem.Code = CodeNoPasskey
		problem.Sentence += ". You have none that decides here yet: "
	default:
		if proved {
			problem.Code = CodeLoginOnlyKey
		}
		problem.Sentence += ". None of yours is one: "
	}
	if len(counting) == 0 && len(asks.Models) == 0 {
		advice = []string{"make one first, and have an administrator of the workspace countersign it"}
	}
	problem.Sentence += strings.Join(advice, ", and then ") + "."
	return &problem, nil
}
