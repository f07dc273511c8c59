package graph

import (
	"slices"

	"github.com/signedapproval/bitbucket/server/approval"
)

type rule struct {
	Name                string
	Branches            []string
	Requirements        []requirement
	AuthorMayApprove    bool
	ExpiresAfterSeconds int32
	Override            *override
	AutoMerge           *autoMerge
	Keys                *keyDemand
	Cosignatures        int32
	Digest              string
}

type requirement struct {
	Name      string
	Quorum    int32
	Everyone  bool
	Approvers []account
}

type override struct {
	Quorum    int32
	Everyone  bool
	Approvers []account
}

type autoMerge struct {
	Strategy          string
	CloseSourceBranch bool
	MessageTemplate   string
}

type keyDemand struct {
	Countersigned bool
	Models        []authenticatorModel
}

// ruleOf maps a rule. A rule knows accounts only; names says what they are called, as far as it does.
func (r *resolver) ruleOf(from approval.Rule, names map[string]string) *rule {
	mapped := &rule{
		Name: from.Name, Branches: from.Branches, AuthorMayApprove: from.AuthorMayApprove,
		ExpiresAfterSeconds: clamp(from.ExpiresAfterSeconds), Cosignatures: clamp(from.Cosignatures), Digest: string(from.Digest()),
		Requirements: each(from.Requirements, func(q approval.Requirement) requirement {
			return requirement{
				Name: q.Name, Quorum: clamp(q.Quorum), Everyone: q.Approvers.Everyone,
				Approvers: each(q.Approvers.Accounts, func(id string) account { return named(id, names) }),
			}
		}),
	}
	if o := from.Override; o != nil {
		mapped.Override = &override{
			Quorum: clamp(o.Quorum), Everyone: o.Approvers.Everyone,
			Approvers: each(o.Approvers.Accounts, func(id string) account { return named(id, names) }),
		}
	}
	if from.AutoMerge != nil {
		mapped.AutoMerge = &autoMerge{
			Strategy: from.AutoMerge.Strategy, CloseSourceBranch: from.AutoMerge.CloseSourceBranch, MessageTemplate: from.AutoMerge.MessageTemplate,
		}
	}
	if k := from.Keys; k != nil {
		mapped.Keys = &keyDemand{Countersigned: k.Countersigned, Models: each(k.Models, r.model)}
	}
	return mapped
}

type account struct {
	AccountID string
	Name      string
}

func accountOf(p approval.Person) account {
	return named(p.AccountID, map[string]string{p.AccountID: p.Name})
}

// named gives an account its name; the account id where none is known.
func named(id string, names map[string]string) account {
	if name := names[id]; name != "" {
		return account{AccountID: id, Name: name}
	}
	return account{AccountID: id, Name: id}
}

type ruleInput struct {
	Name                string
	Branches            []string
	Requirements        []requirementInput
	AuthorMayApprove    *bool
	ExpiresAfterSeconds *int32
	Override            *overrideInput
	AutoMerge           *autoMergeInput
	Keys                *keyDemandInput
	Cosignatures        *int32
}

type keyDemandInput struct {
	Countersigned *bool
	Models        *[]string
}

type requirementInput struct {
	Name      *string
	Quorum    int32
	Everyone  *bool
	Approvers *[]string
}

type overrideInput struct {
	Quorum    int32
	Everyone  *bool
	Approvers *[]string
}

type autoMergeInput struct {
	Strategy          string
	CloseSourceBranch *bool
	MessageTemplate   *string
}

// policyOf makes the policy that is asked for; the use case says whether it can be.
func policyOf(rules []ruleInput) approval.Policy {
	return approval.Policy{Format: approval.Format, Rules: each(rules, func(in ruleInput) approval.Rule {
		made := approval.Rule{
			Name: in.Name, Branches: in.Branches, AuthorMayApprove: or(in.AuthorMayApprove, false),
			ExpiresAfterSeconds: int64(or(in.ExpiresAfterSeconds, int32(approval.DefaultExpiry.Seconds()))), Cosignatures: int(or(in.Cosignatures, 0)),
			Requirements: each(in.Requirements, func(q requirementInput) approval.Requirement {
				return approval.Requirement{
					Name: or(q.Name, "Approval"), Quorum: int(q.Quorum),
					Approvers: approval.Approvers{Everyone: or(q.Everyone, false), Accounts: or(q.Approvers, []string{})},
				}
			}),
		}
		if o := in.Override; o != nil {
			made.Override = &approval.OverrideBy{
				Quorum:    int(o.Quorum),
				Approvers: approval.Approvers{Everyone: or(o.Everyone, false), Accounts: or(o.Approvers, []string{})},
			}
		}
		if k := in.Keys; k != nil {
			made.Keys = &approval.KeyDemand{Countersigned: or(k.Countersigned, false), Models: slices.Sorted(slices.Values(or(k.Models, nil)))}
		}
		if in.AutoMerge != nil {
			made.AutoMerge = &approval.AutoMerge{
				Strategy: in.AutoMerge.Strategy, CloseSourceBranch: or(in.AutoMerge.CloseSourceBranch, false),
				MessageTemplate: or(in.AutoMerge.MessageTemplate, ""),
			}
		}
		return made
	})}
}

// or gives what an input holds, or what stands in where it is missing or null.
func or[T any](given *T, missing T) T {
	if given == nil {
		return missing
	}
	return *given
}
