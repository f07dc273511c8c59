package approval

// State is the outcome of a tally.
type State string

// The outcomes.
const (
	Pending    State = "PENDING"
	Approved   State = "APPROVED"
	Rejected   State = "REJECTED"
	Expired    State = "EXPIRED"
	Overridden State = "OVERRIDDEN"
)

// MaxSentence is the limit of [Verdict].Sentence, in characters.
const MaxSentence = 200

// Verdict is a tally's outcome with its reasons.
type Verdict struct {
	// State is the outcome.
	State State `json:"state"`
	// Sentence says it to the pull request's readers in at most [MaxSentence] characters.
	Sentence string `json:"sentence"`
	// Requirements explains each requirement of the rule, in the rule's order.
	Requirements []RequirementVerdict `json:"requirements"`
	// Override says the same of the overrides: how many the rule needs, whose count,
	// and who can still give one. It is nil when the rule cannot be overridden.
	Override *RequirementVerdict `json:"override,omitempty"`
	// Rejections are the people whose rejection stands, in order of decision.
	Rejections []Person `json:"rejections"`
}

// RequirementVerdict says how far one requirement is met. In [Verdict].Override
// the approvals of its description are overrides.
type RequirementVerdict struct {
	// Name is the requirement's name.
	Name string `json:"name"`
	// Quorum is the number of approvals that it asks for.
	Quorum int `json:"quorum"`
	// Counted are the people whose approval counts, in order of decision; all of
	// them, also beyond the quorum.
	Counted []Person `json:"counted"`
	// Missing is how many more approvals are needed.
	Missing int `json:"missing"`
	// CanStillApprove are the people whose approval would count if they gave it now.
	CanStillApprove []Person `json:"canStillApprove"`
	// Ignored are the approvals of this commit that do not count, and why.
	Ignored []Ignored `json:"ignored"`
}

// Met reports whether the requirement is fulfilled. A quorum below one never is.
func (v RequirementVerdict) Met() bool { return v.Quorum >= 1 && v.Missing == 0 }

// Reason is the stable name of why an approval does not count.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	OtherDestination Reason = "other_destination" // given for another destination branch
	OtherRule        Reason = "other_rule"        // given under another version of the rule
	OtherRequest     Reason = "other_request"     // given for another request on the same commit
	IsAuthor         Reason = "author"            // given by the pull request's author
	NotAnApprover    Reason = "not_an_approver"   // given by somebody outside the requirement's set
	CompromisedKey   Reason = "compromised_key"   // given with a key that may have been in other hands
	LoginOnlyKey     Reason = "login_only_key"    // given with a key that is known by a log-in alone
	UnprovedModel    Reason = "unproved_model"    // given with a key that is not proved to be of a model that the rule names
	SamePerson       Reason = "same_person"       // given by somebody who is already counted
)

// Ignored is an approval that does not count.
type Ignored struct {
	// Person gave it.
	Person Person `json:"person"`
	// Reason is stable.
	Reason Reason `json:"reason"`
	// Sentence says it to people.
	Sentence string `json:"sentence"`
}
