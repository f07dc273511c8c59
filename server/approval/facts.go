package approval

import "time"

// Person is somebody who appears in a tally.
type Person struct {
	// ID is our id of the person; empty for an account that never signed in here.
	ID string `json:"id,omitempty"`
	// AccountID is the Bitbucket account id.
	AccountID string `json:"accountId"`
	// Name is the display name at the time; only shown, never compared.
	Name string `json:"name,omitempty"`
}

// Facts is everything that a tally looks at.
type Facts struct {
	// Now is the time of the decision, read once by the caller.
	Now time.Time `json:"now"`
	// Request is what the approvals have to be about.
	Request RequestFacts `json:"request"`
	// Author is the account id of the pull request's author; empty when
	// Bitbucket no longer knows the account.
	Author string `json:"author,omitempty"`
	// Writers are those with write permission on the repository. It is read
	// only when the rule's [Needs] ask for it.
	Writers []Person `json:"writers,omitempty"`
	// People gives names to accounts, for the sentences only.
	People []Person `json:"people,omitempty"`
	// Decisions on the pull request in any order. Decisions on other commits
	// may be among them and have no effect.
	Decisions []Decision `json:"decisions,omitempty"`
}

// RequestFacts identifies one approval request: one pull request's head commit,
// destination branch and rule.
type RequestFacts struct {
	// ID is our id of the request.
	ID string `json:"id"`
	// HeadCommit is the full hash of the source branch's commit, 40 hexadecimal digits.
	HeadCommit string `json:"headCommit"`
	// DestinationBranch is the branch to be merged into.
	DestinationBranch string `json:"destinationBranch"`
	// RuleDigest is [Rule.Digest] of the rule that applies.
	RuleDigest Digest `json:"ruleDigest"`
	// ExpiresAt is when the request ends without an answer.
	ExpiresAt time.Time `json:"expiresAt"`
	// Lapsed says that the time was up before the request was approved or
	// overridden: the verdict before this one was another, and rests on all that
	// was decided in time, or was itself reached when the time was up. Nothing that
	// changes later, a permission or a clock for example, makes the request better.
	Lapsed bool `json:"lapsed,omitempty"`
}

// Action is what a decision does.
type Action string

// The actions.
const (
	Approve  Action = "APPROVE"
	Reject   Action = "REJECT"
	Withdraw Action = "WITHDRAW"
	// Override lets the commit be merged without the approvals that the rule asks for.
	Override Action = "OVERRIDE"
)

// Countersigned is the identity of a key for which somebody else vouched.
const Countersigned = "countersigner"

// Disowned is the identity of a key that would be [Countersigned], had nobody reported a
// key of who vouched for it as stolen. It is no better than one for which nobody did.
const Disowned = "disowned"

// Decision is one signed act of one person.
type Decision struct {
	// ID is our id of the decision.
	ID string `json:"id"`
	// RequestID is the request that the person was shown.
	RequestID string `json:"requestId"`
	// PersonID and AccountID both identify the person: whoever shares either
	// is the same approver, however many keys they have.
	PersonID  string `json:"personId"`
	AccountID string `json:"accountId"`
	// Name is the person's display name at the time.
	Name string `json:"name,omitempty"`
	// Identity is by what the key was known when it signed, as the roster that its
	// signer was shown has it: [Countersigned], [Disowned] or anything else. It is
	// empty unless the rule's [Needs] ask for it.
	Identity string `json:"identity,omitempty"`
	// Model is the AAGUID of the key's authenticator where an attestation proves it and
	// the rule names it. It is empty unless the rule's [Needs] ask for it.
	Model string `json:"model,omitempty"`
	// Compromised says that the key may have been in other hands when it signed, as
	// its revocation says.
	Compromised bool `json:"compromised,omitempty"`
	// Late says that the decision was made when the time of the request that the
	// tally is about was up. It can make a request worse, and never better.
	Late bool `json:"late,omitempty"`
	// Action is APPROVE, REJECT, WITHDRAW or OVERRIDE.
	Action Action `json:"action"`
	// HeadCommit, DestinationBranch and RuleDigest are what was signed.
	HeadCommit        string `json:"headCommit"`
	DestinationBranch string `json:"destinationBranch"`
	RuleDigest        Digest `json:"ruleDigest"`
	// Sequence orders the decisions of a pull request: the position of the
	// decision's leaf in the pull request's chain.
	Sequence int64 `json:"sequence"`
}
